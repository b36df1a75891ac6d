"""Free the space of deleted files in full homes.

If a file is deleted while it is open, an NFS client renames it to `.nfsXXXX…`, and removes it when it is closed. Its
size counts until then. In two cases the file is never removed:

- The client has died.
- Its last pages do not fit. Linux's client (seen with 6.12) writes a folio that is larger than `wsize` in parts. If a
  later part finds no space, the server's write verifier changes (`nfsd_reset_write_verifier`), so the client writes all
  parts again, every 30 s. The file stays open until there is space for the whole folio.

In a full home, files of the first kind are removed. For those of the second kind, the quota is raised by one folio for
a short time. Users who give their own files such names gain that much space for that time.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType

from hubsmith_homes.quotas import HOMES, PROJECT, report, xfs_quota

CLIENTS = Path("/proc/fs/nfsd/clients")
#: Size of the largest folio in KiB (x86-64: a huge page), and the number of files that get space for one at a time.
FOLIO, AT_ONCE = 2048, 8
#: Seconds. A client writes dirty pages again after 30 s (vm.dirty_expire_centisecs), and checks every 5 s.
PATIENCE = 45


def open_inodes(clients: Path = CLIENTS) -> set[int]:
    """Return the inode numbers that clients have open, on any file system."""
    found: set[int] = set()
    for file in clients.glob("*/states"):
        with suppress(FileNotFoundError):  # a client that has just gone
            found |= {int(number) for number in re.findall(r'superblock: "[^"]*:(\d+)"', file.read_text())}
    return found


def sort_out(home: Path, held: set[int]) -> tuple[list[Path], list[Path]]:
    """Remove the deleted files below a home that no client has open.

    It works relative to open folders, because the owner may replace any folder by a link.

    :param held: inode numbers that clients have open.
    :returns: removed files, and files that are still open.
    """
    removed, kept = [], []
    for folder, _, names, place in os.fwalk(home):
        for name in names:
            if not re.fullmatch(r"\.nfs[0-9a-f]{8,}", name):
                continue
            with suppress(FileNotFoundError):  # its client has just removed it
                if os.stat(name, dir_fd=place, follow_symlinks=False).st_ino in held:
                    kept.append(Path(folder) / name)
                else:
                    os.unlink(name, dir_fd=place)
                    removed.append(Path(folder) / name)
    return removed, kept


def full_homes() -> dict[int, int]:
    """Return the limits in KiB, by project ID, of the projects without space for a folio."""
    return {project: limit for project, (used, limit) in report(PROJECT, "b").items() if limit and used + FOLIO > limit}


def still_there(files: list[Path]) -> bool:
    return any(os.path.lexists(file) for file in files)


def make_room(project: int, limit: int, files: list[Path]) -> None:
    """Raise a limit (KiB) until the files are gone, but at most for :data:`PATIENCE`, then restore it."""
    more = limit + FOLIO * min(len(files), AT_ONCE)
    try:
        xfs_quota(f"limit -p bhard={more}k {project}")
        until = time.monotonic() + PATIENCE
        while still_there(files) and time.monotonic() < until:
            time.sleep(1)
    finally:
        # Unless an apply has set another limit meanwhile.
        if report(PROJECT, "b")[project][1] == more:
            xfs_quota(f"limit -p bhard={limit}k {project}")


def main() -> None:
    signal.signal(signal.SIGTERM, end)
    full = full_homes()
    # A project's ID is the uid of the home's user, even if the files belong to the containers' user.
    accounts = (line.split(":") for line in Path("/etc/passwd").read_text().splitlines())
    for uid, home in ((int(fields[2]), Path(fields[5])) for fields in accounts):
        if uid not in full or home.parent != Path(HOMES):
            continue
        removed, kept = sort_out(home, open_inodes())
        for file in removed:
            print(f"{file}: removed; no machine has it open any more", flush=True)
        if kept:
            make_room(uid, full[uid], kept)
            gone = sum(not os.path.lexists(file) for file in kept)
            print(f"{home}: {gone} of {len(kept)} deleted files are gone", flush=True)


def end(number: int, frame: FrameType | None) -> None:
    sys.exit(0)


if __name__ == "__main__":
    main()
