"""Atomic writes, and a lock against concurrent runs."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from hubsmith.errors import HubsmithError


def write(path: Path, content: str, *, mode: int = 0o644, uid: int = -1, gid: int = -1, durable: bool = False) -> bool:
    """Write a file atomically, with its final mode and owner. If nothing differs, leave it alone.

    :param uid: owner; -1 is the current user.
    :param gid: group; -1 is the current group.
    :param durable: flush to disk before returning, so that a power cut leaves either the old or the new file.
    :returns: whether content, mode or owner changed.
    """
    uid = os.geteuid() if uid == -1 else uid
    gid = os.getegid() if gid == -1 else gid
    if not differs(path, content, mode=mode, uid=uid, gid=gid):
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content.encode())
            os.fchown(file.fileno(), uid, gid)
            os.fchmod(file.fileno(), mode)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)
    return True


def differs(path: Path, content: str, *, mode: int, uid: int, gid: int) -> bool:
    """Whether a file's content, mode or owner differs, or the file does not exist."""
    try:
        found = path.stat(follow_symlinks=False)
    except FileNotFoundError:
        return True
    meant = (stat.S_IFREG | mode, uid, gid)
    return (found.st_mode, found.st_uid, found.st_gid) != meant or path.read_bytes() != content.encode()


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def locked(path: Path, *, timeout: float = 900) -> Iterator[None]:
    """Hold a lock file. The kernel releases it when the process ends.

    :param timeout: seconds to wait for another holder, such as an apply with many new accounts on a slow machine.
    :raises HubsmithError: another process still holds it after ``timeout``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + timeout
    # For its owner alone: whoever can open a file can lock it.
    with open(path, "w", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        os.fchmod(file.fileno(), 0o600)
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise HubsmithError(f"another run holds it since {timeout:.0f} s", where=str(path)) from None
                time.sleep(0.2)
        yield
