"""Clean up after a testbed: wait until its owner is dead, kill remaining processes, and delete the folder.

It is run as a script with the folder as its argument, so that it shares nothing with the process it outlives.
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

#: Lock file held by the owner.
OWNER = ".owner"
#: File that the owner and all its descendants have open.
MEMBERS = ".members"


def holders(lock: Path) -> set[int]:
    """IDs of other processes that have the file open."""
    found = set()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if link.samefile(lock):
                found.add(int(link.parts[2]))
    return found - {os.getpid()}


def main() -> None:
    """Wait for the owner's death, then clean up."""
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
