"""Reader for the inodes of an EROFS image that needs no privileges (format: Linux's `fs/erofs/erofs_fs.h`).

erofs-utils can extract contents, but owners only as root, and without setuid bits.
"""

from __future__ import annotations

import mmap
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_SUPERBLOCK = 1024
_SLOT = 32
_FLAT_PLAIN, _FLAT_INLINE = 0, 2


@dataclass(frozen=True)
class Inode:
    """An inode. All hard links of a file have the same ``number``.

    :ivar mtime: seconds since 1970.
    :ivar target: target of a symbolic link.
    """

    number: int
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    device: int
    target: str | None = None


class Erofs:
    """An EROFS image.

    :raises ValueError: a directory or link has an unsupported data layout.
    """

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self._raw = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        block_bits, _, root = struct.unpack_from("<BBH", self._raw, _SUPERBLOCK + 12)
        self._block = 1 << block_bits
        (self._time,) = struct.unpack_from("<Q", self._raw, _SUPERBLOCK + 24)
        (metadata,) = struct.unpack_from("<I", self._raw, _SUPERBLOCK + 40)
        self._inodes = metadata << block_bits
        self._root = root

    def walk(self) -> Iterator[tuple[str, Inode]]:
        """Yield each path with its inode. Folders come before their entries, and the path of the root is empty."""
        waiting = [("", self._root)]
        while waiting:
            path, number = waiting.pop()
            inode = self.inode(number)
            yield path, inode
            if stat.S_ISDIR(inode.mode):
                entries = [(f"{path}/{name}".lstrip("/"), child) for name, child in self._folder(number)]
                waiting += sorted(entries, reverse=True)

    def inode(self, number: int) -> Inode:
        """Return the inode with a number."""
        at = self._inodes + number * _SLOT
        form, _, mode = struct.unpack_from("<HHH", self._raw, at)
        if form & 1:
            size, union = struct.unpack_from("<QI", self._raw, at + 8)
            uid, gid, mtime = struct.unpack_from("<IIQ", self._raw, at + 24)
        else:
            size, _, union = struct.unpack_from("<III", self._raw, at + 8)
            uid, gid = struct.unpack_from("<HH", self._raw, at + 24)
            mtime = self._time
        target = self._data(number).decode(errors="surrogateescape") if stat.S_ISLNK(mode) else None
        device = union if stat.S_ISCHR(mode) or stat.S_ISBLK(mode) else 0
        return Inode(number, mode, uid, gid, size, mtime, device, target)

    def _data(self, number: int) -> bytes:
        """Return the bytes of a folder or link, which are never compressed."""
        at = self._inodes + number * _SLOT
        form, xattrs = struct.unpack_from("<HH", self._raw, at)
        extended, layout = form & 1, form >> 1 & 7
        (size,) = struct.unpack_from("<Q" if extended else "<I", self._raw, at + 8)
        (first,) = struct.unpack_from("<I", self._raw, at + 16)
        if layout not in (_FLAT_PLAIN, _FLAT_INLINE):
            raise ValueError(f"the inode {number} has the data layout {layout}")
        tail = size % self._block if layout == _FLAT_INLINE else 0
        inline = at + (64 if extended else 32) + (12 + (xattrs - 1) * 4 if xattrs else 0)
        start = first * self._block
        return self._raw[start : start + size - tail] + self._raw[inline : inline + tail]

    def _folder(self, number: int) -> Iterator[tuple[str, int]]:
        data = self._data(number)
        for block in (data[at : at + self._block] for at in range(0, len(data), self._block)):
            # The first entry's name begins where the entries end.
            count = struct.unpack_from("<H", block, 8)[0] // 12
            starts = [struct.unpack_from("<QH", block, 12 * index) for index in range(count)]
            for (child, start), end in zip(starts, [*(one[1] for one in starts[1:]), len(block)], strict=True):
                name = block[start:end].rstrip(b"\0").decode(errors="surrogateescape")
                if name not in (".", ".."):
                    yield name, child
