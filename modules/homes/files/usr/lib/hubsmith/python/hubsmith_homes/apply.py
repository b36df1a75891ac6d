"""Make each user's home and its quota; reads apply's JSON on standard input.

/home is XFS with project quotas. A home's project id is the uid of its owner, inherited by all that is made inside.
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
from hubsmith.guest.programs import CONTAINERS, mounted, run
from hubsmith_homes.quotas import report, xfs_quota

HOMES = Path("/home")
SHARED = HOMES / "shared"
SKELETON = Path("/etc/skel")
USAGE = Path("/run/hubsmith/usage")

# linux/fs.h: struct fsxattr { u32 xflags, extsize, nextents, projid, cowextsize; char pad[8]; }
FS_IOC_FSGETXATTR, FS_IOC_FSSETXATTR = 0x801C581F, 0x401C5820
FSXATTR = struct.Struct("=5I8s")
PROJINHERIT = 0x200
#: An inode takes 512 bytes that XFS charges to nobody: files are limited, too, to one for each 4 KiB of the quota.
BYTES_PER_FILE, FEWEST_FILES = 4096, 50_000


def quotas_are_on() -> bool:
    """Whether the kernel enforces project quotas on the file system of the homes."""
    _, kind, options = mounted(HOMES)
    return kind == "xfs" and "prjquota" in options


def project_of(folder: int) -> tuple[int, bool]:
    """The project id of an open folder, and whether what is made inside inherits it."""
    flags, _, _, project, _, _ = FSXATTR.unpack(fcntl.ioctl(folder, FS_IOC_FSGETXATTR, bytes(FSXATTR.size)))
    return project, bool(flags & PROJINHERIT)


def give_project(folder: int, project: int) -> None:
    """Give an empty folder to a project."""
    flags, extent, count, _, cow, pad = FSXATTR.unpack(fcntl.ioctl(folder, FS_IOC_FSGETXATTR, bytes(FSXATTR.size)))
    fcntl.ioctl(folder, FS_IOC_FSSETXATTR, FSXATTR.pack(flags | PROJINHERIT, extent, count, project, cow, pad))


def open_folder(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)


def make_home(home: Path, project: int, owner: tuple[int, int]) -> None:
    """A home from the skeleton: under its own name only when it is whole."""
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
    """Bring a home that is there to its mode and project."""
    folder = open_folder(home)
    found, (uid, gid) = os.fstat(folder), owner
    if found.st_uid != uid:
        sys.exit(f"{home} belongs to uid {found.st_uid}, not to {uid}: `chown -R {uid}:{gid} {home}` gives it over")
    os.fchmod(folder, 0o700)
    if project_of(folder) != (project, True):
        xfs_quota(f"project -s -p {home} {project}")
    os.close(folder)


def link_shared(home: Path, owner: tuple[int, int], wanted: bool) -> None:
    """The name `shared` in a home; a file of the user's own under that name stays."""
    folder = open_folder(home)
    try:
        is_ours = os.readlink("shared", dir_fd=folder) == str(SHARED)
    except FileNotFoundError:
        if wanted:
            try:
                os.symlink(SHARED, "shared", dir_fd=folder)
                os.chown("shared", *owner, dir_fd=folder, follow_symlinks=False)
            except OSError as error:  # a full home must not keep the hub from starting
                print(f"{home}: no link to the shared folder: {error.strerror}", file=sys.stderr)
    except OSError:
        pass  # something of the user's own that is no link
    else:
        if is_ours and not wanted:
            os.unlink("shared", dir_fd=folder)
    os.close(folder)


def make_shared(wanted: bool, in_containers: bool) -> None:
    """The shared folder: all users read, admins write, and an admin can change another one's files.

    In containers everybody has the same uid: who may write is settled by how the folder is mounted.
    """
    if wanted and in_containers:
        SHARED.mkdir(exist_ok=True)
        run("setfacl", "--remove-all", "--remove-default", SHARED)
        os.chown(SHARED, *CONTAINERS)
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
    """The hard limits in force, by project id: KiB and files."""
    files = report("-i")
    return {project: (limit, files[project][1]) for project, (_, limit) in report("-b").items() if project in files}


def set_quotas(quotas: dict[int, int]) -> None:
    """Limit each project to its bytes; a limit below what is used only stops further growth."""
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
    settings = read_context()["settings"]
    if not quotas_are_on():
        sys.exit(f"{HOMES} is not an XFS file system with project quotas")
    in_containers = settings["spawner"]["kind"] == "swarm"
    shared, quotas = settings["homes"]["shared"], {}
    make_shared(shared, in_containers)
    for user in settings["users"]:
        home, uid = HOMES / user["name"], pwd.getpwnam(user["name"]).pw_uid
        owner = CONTAINERS if in_containers else (uid, uid)
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
