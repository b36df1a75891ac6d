"""The EFI system partition's file system, made file by file.

systemd-repart would fill it with `mcopy -s`, which takes folders in the order in which the scratch folder's file system
lists them: another order on ext4 with another hash seed, or on tmpfs. Here the order is sorted, all times are the
build's epoch (mtools reads ``SOURCE_DATE_EPOCH``), and the volume ID is given.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

#: FAT keeps local time, and mtools would read a configuration of the person who builds.
ENVIRONMENT = {"TZ": "UTC", "MTOOLSRC": "/dev/null"}


def make(image: Path, size: int, volume_id: int, tree: Path) -> None:
    """Make a FAT32 file system that holds the files of a folder.

    :param size: bytes, all of them taken by the file system.
    :param volume_id: 32 bits.
    """
    with image.open("wb") as file:
        file.truncate(size)
    # --invariant: the label's time. Only newer versions take that from SOURCE_DATE_EPOCH.
    # -g: of sectors in a track, a number that divides the size; the file system would end with the last whole track.
    _run("mkfs.vfat", "--invariant", "-F", "32", "-g", "64/32", "-n", "ESP", "-i", f"{volume_id:08x}", image)
    for path in sorted(tree.rglob("*")):
        name = f"::/{path.relative_to(tree)}"
        if path.is_dir():
            _run("mmd", "-i", image, name)
        else:
            _run("mcopy", "-i", image, path, name)


def _run(*argv: str | Path) -> None:
    subprocess.run(argv, check=True, env={**os.environ, **ENVIRONMENT})
