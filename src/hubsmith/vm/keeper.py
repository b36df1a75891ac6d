"""Waits until a testbed's owner is dead, then ends what is left of its processes and removes its folder.

Run as a script with the folder as its argument, so that it shares nothing with the process that it outlives.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import sys
import time
from pathlib import Path

#: Held by the owner alone.
OWNER = ".owner"
#: Held by the owner and inherited by all its children and theirs.
MEMBERS = ".members"


def holders(lock: Path) -> set[int]:
    """The processes that have the file open, other than this one."""
    found = set()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if link.samefile(lock):
                found.add(int(link.parts[2]))
    return found - {os.getpid()}


def main() -> None:
    """Wait, end, remove."""
    folder = Path(sys.argv[1])
    with (folder / OWNER).open() as owner:
        fcntl.flock(owner, fcntl.LOCK_EX)
        for _ in range(100):
            left = holders(folder / MEMBERS)
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if not left:
                break
            time.sleep(0.05)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
