"""File system of the EFI system partition, created file by file.

systemd-repart would fill it with `mcopy -s`, in the order in which the build machine's file system lists the folder.
That order depends on ext4's hash seed, and differs on tmpfs. Here files are sorted, all timestamps are the build's
epoch (mtools reads ``SOURCE_DATE_EPOCH``), and the volume ID is set.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

#: FAT stores local time, and mtools would read the user's configuration.
ENVIRONMENT = {"TZ": "UTC", "MTOOLSRC": "/dev/null"}


def make(image: Path, size: int, volume_id: int, tree: Path) -> None:
    """Create a FAT32 file system with the files of a folder.

    :param size: size of the file system in bytes.
    :param volume_id: volume ID of 32 bits.
    """
    with image.open("wb") as file:
        file.truncate(size)
    # --invariant: fixes the label's time. Only newer versions take it from SOURCE_DATE_EPOCH.
    # -g: a number of sectors per track that divides the size. Otherwise the file system ends with the last whole track.
    _run("mkfs.vfat", "--invariant", "-F", "32", "-g", "64/32", "-n", "ESP", "-i", f"{volume_id:08x}", image)
    for path in sorted(tree.rglob("*")):
        name = f"::/{path.relative_to(tree)}"
        if path.is_dir():
            _run("mmd", "-i", image, name)
        else:
            _run("mcopy", "-i", image, path, name)


def _run(*argv: str | Path) -> None:
    subprocess.run(argv, check=True, env={**os.environ, **ENVIRONMENT})
