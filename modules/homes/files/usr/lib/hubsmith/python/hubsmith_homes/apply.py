"""Create each user's home and set its quota. Reads apply's JSON on standard input.

/home is XFS with project quotas. A home's project ID is its user's uid, and files created inside inherit it.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import shutil
import struct
import sys
from pathlib import Path

from hubsmith.guest.context import read_context
from hubsmith.guest.programs import mounted, run
from hubsmith_homes.quotas import report, xfs_quota

HOMES = Path("/home")
SHARED = HOMES / "shared"
SKELETON = Path("/etc/skel")
USAGE = Path("/run/hubsmith/usage")

# linux/fs.h: struct fsxattr { u32 xflags, extsize, nextents, projid, cowextsize; char pad[8]; }
FS_IOC_FSGETXATTR, FS_IOC_FSSETXATTR = 0x801C581F, 0x401C5820
FSXATTR = struct.Struct("=5I8s")
PROJINHERIT = 0x200
#: XFS does not charge the 512 bytes of an inode to any project. So the number of files is limited, too: one for each
#: 4 KiB of the quota, but at least 50,000.
BYTES_PER_FILE, FEWEST_FILES = 4096, 50_000


def quotas_are_on() -> bool:
    """Whether the homes' file system enforces project quotas."""
    _, kind, options = mounted(HOMES)
    return kind == "xfs" and "prjquota" in options


def project_of(folder: int) -> tuple[int, bool]:
    """Return the project ID of an open folder, and whether new files inside inherit it."""
    flags, _, _, project, _, _ = FSXATTR.unpack(fcntl.ioctl(folder, FS_IOC_FSGETXATTR, bytes(FSXATTR.size)))
    return project, bool(flags & PROJINHERIT)


def give_project(folder: int, project: int) -> None:
    """Set the project ID of an empty folder, and let new files inside inherit it."""
    flags, extent, count, _, cow, pad = FSXATTR.unpack(fcntl.ioctl(folder, FS_IOC_FSGETXATTR, bytes(FSXATTR.size)))
    fcntl.ioctl(folder, FS_IOC_FSSETXATTR, FSXATTR.pack(flags | PROJINHERIT, extent, count, project, cow, pad))


def open_folder(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)


def make_home(home: Path, project: int, owner: tuple[int, int]) -> None:
    """Create a home from the skeleton, atomically."""
    new = HOMES / f".{home.name}.new"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(mode=0o700)
    folder = open_folder(new)
    give_project(folder, project)
    shutil.copytree(SKELETON, new, symlinks=True, dirs_exist_ok=True)
    for parent, folders, names in os.walk(new):
        for name in (*folders, *names):
            os.chown(Path(parent) / name, *owner, follow_symlinks=False)
    os.fchown(folder, *owner)
    os.fchmod(folder, 0o700)
    os.close(folder)
    os.sync()
    new.rename(home)
    os.sync()


def check_home(home: Path, project: int, owner: tuple[int, int]) -> None:
    """Check the owner of an existing home, and set its mode and project ID."""
    folder = open_folder(home)
    found, (uid, gid) = os.fstat(folder), owner
    if found.st_uid != uid:
        sys.exit(f"{home} belongs to uid {found.st_uid}, not to {uid}: `chown -R {uid}:{gid} {home}` gives it over")
    os.fchmod(folder, 0o700)
    if project_of(folder) != (project, True):
        xfs_quota(f"project -s -p {home} {project}")
    os.close(folder)


def link_shared(home: Path, owner: tuple[int, int], wanted: bool) -> None:
    """Create or remove the link `shared` in a home. A user's own file of that name is kept."""
    folder = open_folder(home)
    try:
        is_ours = os.readlink("shared", dir_fd=folder) == str(SHARED)
    except FileNotFoundError:
        if wanted:
            try:
                os.symlink(SHARED, "shared", dir_fd=folder)
                os.chown("shared", *owner, dir_fd=folder, follow_symlinks=False)
            except OSError as error:  # a full home must not prevent the hub's start
                print(f"{home}: no link to the shared folder: {error.strerror}", file=sys.stderr)
    except OSError:
        pass  # the user's own file or folder
    else:
        if is_ours and not wanted:
            os.unlink("shared", dir_fd=folder)
    os.close(folder)


def make_shared(wanted: bool, owner: tuple[int, int] | None) -> None:
    """Create the shared folder. All users can read it, admins can write, and also change other admins' files.

    :param owner: uid and gid of all homes, if they have a common owner. Then the mount of each server is writable or
        read-only, instead of permissions in the folder.
    """
    if wanted and owner:
        SHARED.mkdir(exist_ok=True)
        run("setfacl", "--remove-all", "--remove-default", SHARED)
        os.chown(SHARED, *owner)
        SHARED.chmod(0o755)
    elif wanted:
        SHARED.mkdir(exist_ok=True)
        shutil.chown(SHARED, "root", "hubadmins")
        SHARED.chmod(0o2775)
        run("setfacl", "--default", "--modify", "u::rwx,g::rwx,g:hubadmins:rwx,o::rx", SHARED)
    elif SHARED.is_dir():
        shutil.chown(SHARED, "root", "root")
        SHARED.chmod(0o700)


def limits() -> dict[int, tuple[int, int]]:
    """Return the current hard limits by project ID: KiB and number of files."""
    files = report("-i")
    return {project: (limit, files[project][1]) for project, (_, limit) in report("-b").items() if project in files}


def set_quotas(quotas: dict[int, int]) -> None:
    """Set the limit of each project in bytes. A limit below the current use only prevents further growth."""
    wanted = {uid: (size // 1024, max(size // BYTES_PER_FILE, FEWEST_FILES)) for uid, size in quotas.items()}
    before = limits()
    commands = []
    for uid, (blocks, files) in wanted.items():
        if before.get(uid) != (blocks, files):
            commands.append(f"limit -p bsoft=0 bhard={blocks}k isoft=0 ihard={files} {uid}")
    if commands:
        xfs_quota(*commands)
        after = limits()
        if wrong := [uid for uid, limit in wanted.items() if after.get(uid) != limit]:
            sys.exit(f"the quota of {len(wrong)} users could not be set")


def main() -> None:
    os.umask(0o022)
    context = read_context()
    settings, common_owner = context["settings"], context["facts"]["home_owner"]
    if not quotas_are_on():
        sys.exit(f"{HOMES} is not an XFS file system with project quotas")
    shared, quotas = settings["homes"]["shared"], {}
    make_shared(shared, common_owner)
    for user in settings["users"]:
        home, uid = HOMES / user["name"], pwd.getpwnam(user["name"]).pw_uid
        owner = common_owner or (uid, uid)
        if home.is_dir():
            check_home(home, uid, owner)
        else:
            make_home(home, uid, owner)
        link_shared(home, owner, shared)
        quotas[uid] = user["quota"] or settings["homes"]["quota"]
    set_quotas(quotas)
    USAGE.mkdir(mode=0o711, exist_ok=True)


if __name__ == "__main__":
    main()
