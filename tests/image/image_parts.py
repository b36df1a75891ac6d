"""What the tests of a built image share."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hubsmith.run import run

ROOT = Path(__file__).parents[2]
MIB = 1024 * 1024
SECTOR = 512


@dataclass(frozen=True)
class Output:
    """The output folder of a build."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def qcow2(self) -> Path:
        return self.folder / f"{self.name}.qcow2"

    @property
    def roothash(self) -> str:
        return (self.folder / "roothash").read_text().strip()

    def json(self, name: str) -> Any:
        return json.loads((self.folder / name).read_text())


@dataclass(frozen=True)
class Partition:
    """A partition of the raw disk: ``start`` and ``size`` in bytes."""

    start: int
    size: int
    type: str
    uuid: str


def cut(disk: Path, part: Partition, out: Path) -> Path:
    """Copy a partition into a (sparse) file of its own."""
    with disk.open("rb") as source, out.open("wb") as target:
        source.seek(part.start)
        target.truncate(part.size)
        for offset in range(0, part.size, MIB):
            block = source.read(min(MIB, part.size - offset))
            if block.count(0) != len(block):
                target.seek(offset)
                target.write(block)
    return out


@dataclass(frozen=True)
class Inode:
    """What the root itself says of a path."""

    mode: int
    uid: int
    gid: int


def inode(erofs: Path, path: str) -> Inode:
    """Read an inode (Linux: fs/erofs/erofs_fs.h); ``dump.erofs`` finds it, but does not show the setuid bits."""
    shown = run(["dump.erofs", f"--path=/{path}", erofs]).stdout
    number = int(shown.partition("NID:")[2].split()[0])
    with erofs.open("rb") as file:
        file.seek(1024)  # EROFS_SUPER_OFFSET
        superblock = file.read(128)
        file.seek((struct.unpack_from("<I", superblock, 40)[0] << superblock[12]) + number * 32)
        raw = file.read(64)
    extended = struct.unpack_from("<H", raw, 0)[0] & 1
    uid, gid = struct.unpack_from("<II" if extended else "<HH", raw, 24)
    return Inode(struct.unpack_from("<H", raw, 4)[0], uid, gid)
