"""Give people the room back of what they deleted in a full home.

A client of NFS renames a file that is deleted while it is open to `.nfsXXXX…`, and removes it when nobody has it open
any more. Its size counts until then, and there are two cases in which that never comes:

- The client has died.
- Its last pages do not fit. Linux's client (seen with 6.12) writes a folio that is larger than `wsize` in parts. When a
  later part finds no space, the server's write verifier changes (`nfsd_reset_write_verifier`), and so the client writes
  all parts again, every 30 s. The file stays open until there is room for the whole folio.

So in a home that is full, files of the first kind are removed, and those of the second get room for a folio for a
moment. Whoever gives a file of their own such a name gains that much for that long.
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
#: KiB of the largest folio (x86-64: a huge page), and how many files get room for one at the same time.
FOLIO, AT_ONCE = 2048, 8
#: Seconds: a client writes dirty pages again after 30 (vm.dirty_expire_centisecs), looking every 5.
PATIENCE = 45


def open_inodes(clients: Path = CLIENTS) -> set[int]:
    """The inodes that some client has open, whichever file system they are of."""
    found: set[int] = set()
    for file in clients.glob("*/states"):
        with suppress(FileNotFoundError):  # a client that has just gone
            found |= {int(number) for number in re.findall(r'superblock: "[^"]*:(\d+)"', file.read_text())}
    return found


def sort_out(home: Path, held: set[int]) -> tuple[list[Path], list[Path]]:
    """Remove what clients renamed below a home when it was deleted, unless some client has it open.

    :returns: what was removed, and what was not.

    It goes from open folder to open folder: the owner may put a link in the place of any.
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
    """The limits in KiB of the projects that have no room for a folio, by id."""
    return {project: limit for project, (used, limit) in report(PROJECT, "b").items() if limit and used + FOLIO > limit}


def still_there(files: list[Path]) -> bool:
    return any(os.path.lexists(file) for file in files)


def make_room(project: int, limit: int, files: list[Path]) -> None:
    """Raise a limit (KiB) until the files are gone, or for a moment; then set it back."""
    more = limit + FOLIO * min(len(files), AT_ONCE)
    try:
        xfs_quota(f"limit -p bhard={more}k {project}")
        until = time.monotonic() + PATIENCE
        while still_there(files) and time.monotonic() < until:
            time.sleep(1)
    finally:
        # Whoever changed the settings meanwhile has set another one.
        if report(PROJECT, "b")[project][1] == more:
            xfs_quota(f"limit -p bhard={limit}k {project}")


def main() -> None:
    signal.signal(signal.SIGTERM, end)
    full = full_homes()
    # A project's id is the uid of the account of its owner, also where the files belong to the user of containers.
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
