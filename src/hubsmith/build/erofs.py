"""EROFS images: created from a tar, then extended without compressing the existing files again."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import IO, TypeVar

T = TypeVar("T")

#: lz4 decompresses fast on slow machines. Level and cluster size: docs/benchmarks.md.
COMPRESSION = ("-zlz4hc,9", "-C65536")


def fill(image: Path, epoch: int, uuid: str, write: Callable[[IO[bytes]], T]) -> T:
    """Create a file system from a tar. If ``image`` exists, add the tar to it.

    Adding is mkfs.erofs' incremental build (erofs-utils 1.8). New inodes and data are appended, existing bytes stay,
    and only folders with a changed entry are written again.

    :param epoch: creation time of the file system (seconds since 1970).
    :param write: writes the tar to a stream.
    :returns: result of ``write``.
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
