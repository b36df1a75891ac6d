"""Create each user's home and set its quota. Reads apply's JSON on standard input.

/home is XFS with quotas for users and projects (:mod:`hubsmith_homes.quotas` says which ones count). A home's project
ID is its user's uid, and files created inside inherit it.

A damaged home affects only its user: it is left alone and reported.
"""

from __future__ import annotations

import fcntl
import json
import os
import pwd
import shutil
import stat
import struct
import sys
from pathlib import Path

from hubsmith.guest.context import read_context
from hubsmith.guest.files import write
from hubsmith.guest.programs import mounted, run
from hubsmith_homes.quotas import PROJECT, USER, report, xfs_quota

HOMES = Path("/home")
SHARED = HOMES / "shared"
SKELETON = Path("/etc/skel")
USAGE = Path("/run/hubsmith/usage")
#: What is wrong with single homes, by user.
DAMAGED = Path("/run/hubsmith/damaged-homes.json")

# linux/fs.h: struct fsxattr { u32 xflags, extsize, nextents, projid, cowextsize; char pad[8]; }
FS_IOC_FSGETXATTR, FS_IOC_FSSETXATTR = 0x801C581F, 0x401C5820
FSXATTR = struct.Struct("=5I8s")
PROJINHERIT = 0x200
#: XFS does not charge the 512 bytes of an inode to any project. So the number of files is limited, too: one for each
#: 4 KiB of the quota, but at least 50,000.
BYTES_PER_FILE, FEWEST_FILES = 4096, 50_000


class Damaged(Exception):
    """The home cannot be used."""


def quotas_are_on() -> bool:
    """Whether the homes' file system enforces quotas for users and projects."""
    _, kind, options = mounted(HOMES)
    return kind == "xfs" and {"usrquota", "prjquota"} <= set(options)


def project_of(folder: int) -> tuple[int, bool]:
    """Return the project ID of an open folder, and whether new files inside inherit it."""
    flags, _, _, project, _, _ = FSXATTR.unpack(fcntl.ioctl(folder, FS_IOC_FSGETXATTR, bytes(FSXATTR.size)))
    return project, bool(flags & PROJINHERIT)


def give_project(file: int, project: int) -> None:
    """Set the project ID of an open file. New files in a folder inherit it."""
    flags, extent, count, _, cow, pad = FSXATTR.unpack(fcntl.ioctl(file, FS_IOC_FSGETXATTR, bytes(FSXATTR.size)))
    if stat.S_ISDIR(os.fstat(file).st_mode):
        flags |= PROJINHERIT
    fcntl.ioctl(file, FS_IOC_FSSETXATTR, FSXATTR.pack(flags, extent, count, project, cow, pad))


def give_all(folder: int, project: int) -> None:
    """Set the project ID of an open folder and of everything below it.

    Works on file descriptors, since the owner may replace any path by a link.
    """
    for _, _, names, place in os.fwalk(dir_fd=folder, top="."):
        give_project(place, project)
        for name in names:
            if not stat.S_ISREG(os.stat(name, dir_fd=place, follow_symlinks=False).st_mode):
                continue
            file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=place)
            give_project(file, project)
            os.close(file)


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


def check_home(home: Path, project: int, owner: tuple[int, int], *, by_project: bool) -> None:
    """Check the owner of an existing home, and set its mode and, with project quotas, its project ID.

    :raises Damaged: the home belongs to someone else.
    """
    folder = open_folder(home)
    try:
        found, (uid, gid) = os.fstat(folder), owner
        if found.st_uid != uid:
            raise Damaged(f"belongs to uid {found.st_uid}, not to {uid}: `chown -R {uid}:{gid} {home}` gives it over")
        os.fchmod(folder, 0o700)
        if by_project and project_of(folder) != (project, True):
            give_all(folder, project)
    finally:
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


def limits(kind: str) -> dict[int, tuple[int, int]]:
    """Return the current hard limits by uid: KiB and number of files."""
    files = report(kind, "i")
    return {uid: (limit, files[uid][1]) for uid, (_, limit) in report(kind, "b").items() if uid in files}


def set_limits(kind: str, wanted: dict[int, tuple[int, int]]) -> None:
    """Set hard limits; 0 is none. A limit below the current use only prevents further growth."""
    before, none = limits(kind), (0, 0)
    commands = [
        f"limit -{kind} bsoft=0 bhard={blocks}k isoft=0 ihard={files} {uid}"
        for uid, (blocks, files) in wanted.items()
        if before.get(uid, none) != (blocks, files)
    ]
    if commands:
        xfs_quota(*commands)
        after = limits(kind)
        if wrong := [uid for uid, limit in wanted.items() if after.get(uid, none) != limit]:
            sys.exit(f"the quota of {len(wrong)} users could not be set")


def set_quotas(quotas: dict[int, int], *, by_project: bool) -> None:
    """Set each user's limit in bytes. A project is limited only if it counts: users can fill another user's."""
    wanted = {uid: (size // 1024, max(size // BYTES_PER_FILE, FEWEST_FILES)) for uid, size in quotas.items()}
    set_limits(USER, wanted)
    set_limits(PROJECT, wanted if by_project else dict.fromkeys(wanted, (0, 0)))


def main() -> None:
    os.umask(0o022)
    context = read_context()
    settings, common_owner = context["settings"], context["facts"]["home_owner"]
    if not quotas_are_on():
        sys.exit(f"{HOMES} is not an XFS file system with quotas for users and projects")
    shared, by_project = settings["homes"]["shared"], common_owner is not None
    make_shared(shared, common_owner)
    quotas: dict[int, int] = {}
    damaged: dict[str, str] = {}
    for user in settings["users"]:
        home, uid = HOMES / user["name"], pwd.getpwnam(user["name"]).pw_uid
        owner = tuple(common_owner) if common_owner else (uid, uid)
        quotas[uid] = user["quota"] or settings["homes"]["quota"]
        try:
            if os.path.lexists(home):
                check_home(home, uid, owner, by_project=by_project)
            else:
                make_home(home, uid, owner)
            link_shared(home, owner, shared)
        except (Damaged, OSError) as error:
            damaged[user["name"]] = str(error)
            print(f"{home}: {error}", file=sys.stderr)
    set_quotas(quotas, by_project=by_project)
    write(DAMAGED, json.dumps(damaged), mode=0o600)
    USAGE.mkdir(mode=0o711, exist_ok=True)


if __name__ == "__main__":
    main()
