"""The read-only file system: made of a tar once, then added to without compressing the old files again."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import IO, TypeVar

T = TypeVar("T")

#: lz4 is read fast by slow machines. Level and cluster size: docs/benchmarks.md.
COMPRESSION = ("-zlz4hc,9", "-C65536")


def fill(image: Path, epoch: int, uuid: str, write: Callable[[IO[bytes]], T]) -> T:
    """Make a file system of the tar that ``write`` writes, or put that tar over the one that ``image`` holds.

    The second way is mkfs.erofs' incremental build (erofs-utils 1.8): new inodes and data go behind the old ones,
    whose bytes stay, and only folders with a changed entry are written again.

    :param epoch: the file system's own time (seconds since 1970).
    :returns: what ``write`` returns.
    :raises SystemExit: mkfs.erofs failed.
    """
    over = ["--incremental=data", "--aufs", "--ovlfs-strip=1"] if image.exists() else []
    process = subprocess.Popen(
        ["mkfs.erofs", "--quiet", *COMPRESSION, "--workers=2", "--tar=f", *over, f"-T{epoch}", "--mkfs-time",
         f"-U{uuid}", image],
        stdin=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    with process.stdin as stream:
        result = write(stream)
    if process.wait() != 0:
        raise SystemExit("mkfs.erofs failed")
    return result
