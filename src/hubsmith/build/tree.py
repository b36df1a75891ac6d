"""A root file system as a stream: tars in, rules and additions applied on the way, one tar out.

Nothing is unpacked, so no privilege is needed to carry owners, modes and device nodes, and the order is fixed.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

#: Returns the path under which an entry is kept, or nothing when it is dropped.
Rule = Callable[[str], str | None]


@dataclass
class Addition:
    """An entry that is put over whatever the tars have at its path.

    :ivar content: of a regular file; nothing for a directory or a symbolic link.
    :ivar link: the target of a symbolic link.
    """

    path: str
    mode: int
    content: bytes | None = None
    link: str | None = None
    uid: int = 0
    gid: int = 0


@dataclass
class Tree:
    """Joins tars and additions.

    :ivar epoch: times are clamped to it (seconds since 1970).
    :ivar entries: what was written: path → type, mode, owner, size, checksum or link target.
    """

    epoch: int
    rule: Rule
    additions: dict[str, Addition] = field(default_factory=dict)
    entries: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, *additions: Addition) -> None:
        """Put entries over the tars'; a later one wins."""
        for addition in additions:
            self.additions[addition.path] = addition

    def write(self, tars: Iterable[Path], out: IO[bytes]) -> None:
        """Write the joined tree to a stream.

        :raises ValueError: a hard link points to an entry that was dropped.
        """
        with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT, bufsize=1 << 20) as target:
            for tar in tars:
                with tarfile.open(tar, mode="r|", bufsize=1 << 20) as source:
                    for member in source:
                        self._copy(source, member, target)
            for addition in sorted(self.additions.values(), key=lambda one: one.path):
                self._add(addition, target)

    def _copy(self, source: tarfile.TarFile, member: tarfile.TarInfo, target: tarfile.TarFile) -> None:
        path = plain(member.name)
        kept = self.rule(path) if path else ""
        if kept is None or kept in self.additions:
            return
        if kept in self.entries and not member.isdir():
            raise ValueError(f"two layers hold /{kept}")
        if kept in self.entries:
            return
        member.name = f"./{kept}" if kept else "."
        if member.islnk():
            linked = self.rule(plain(member.linkname))
            if linked is None or linked not in self.entries:
                raise ValueError(f"/{path} is a hard link to /{plain(member.linkname)}, which is dropped")
            member.linkname = f"./{linked}"
        member.mtime = min(int(member.mtime), self.epoch)
        member.uname = member.gname = ""
        member.pax_headers = {k: v for k, v in member.pax_headers.items() if k.startswith("SCHILY.xattr.")}
        if member.isreg():
            stream = source.extractfile(member)
            assert stream is not None
            content = stream.read()
            if kept.endswith(".pyc"):
                content = unchecked(content)
            target.addfile(member, io.BytesIO(content))
            self._record(kept, member, hashlib.sha256(content).hexdigest())
        else:
            target.addfile(member)
            self._record(kept, member, None)

    def _add(self, addition: Addition, target: tarfile.TarFile) -> None:
        for parent in reversed(Path(addition.path).parents[:-1]):
            if str(parent) not in self.entries and str(parent) not in self.additions:
                self._write(Addition(str(parent), 0o755), target)
        self._write(addition, target)

    def _write(self, addition: Addition, target: tarfile.TarFile) -> None:
        member = tarfile.TarInfo(f"./{addition.path}")
        member.mode, member.uid, member.gid, member.mtime = addition.mode, addition.uid, addition.gid, self.epoch
        if addition.link is not None:
            member.type, member.linkname, member.mode = tarfile.SYMTYPE, addition.link, 0o777
            target.addfile(member)
            self._record(addition.path, member, None)
        elif addition.content is not None:
            member.size = len(addition.content)
            target.addfile(member, io.BytesIO(addition.content))
            self._record(addition.path, member, hashlib.sha256(addition.content).hexdigest())
        else:
            member.type = tarfile.DIRTYPE
            target.addfile(member)
            self._record(addition.path, member, None)

    def _record(self, path: str, member: tarfile.TarInfo, sha256: str | None) -> None:
        kind = {tarfile.DIRTYPE: "dir", tarfile.SYMTYPE: "link", tarfile.LNKTYPE: "hard", tarfile.REGTYPE: "file"}
        entry: dict[str, Any] = {
            "type": kind.get(member.type, "special"),
            "mode": f"{member.mode & 0o7777:04o}",
            "owner": f"{member.uid}:{member.gid}",
        }
        if sha256 is not None:
            entry |= {"size": member.size, "sha256": sha256}
        if member.linkname:
            entry["target"] = member.linkname
        self.entries[path] = entry


def unchecked(pyc: bytes) -> bytes:
    """A compiled Python module whose hash is not compared with its source at import (PEP 552): both are read-only."""
    return pyc[:4] + b"\1\0\0\0" + pyc[8:] if pyc[4:8] == b"\3\0\0\0" else pyc


def plain(name: str) -> str:
    """A member's name without the leading ``./`` and the trailing slash; the root is the empty name."""
    return name.removeprefix("./").strip("/") if name != "." else ""


def read(tar: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, tarfile.TarInfo, bytes]]:
    """The regular files and links of a tar whose plain name is wanted, with the content of the files."""
    with tarfile.open(tar, mode="r:") as source:
        for member in source:
            name = plain(member.name)
            if (member.isreg() or member.issym()) and wanted(name):
                stream = source.extractfile(member) if member.isreg() else None
                yield name, member, stream.read() if stream else b""
