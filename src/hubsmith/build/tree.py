"""A root file system as a stream: tars in, rules applied on the way, one tar out; then what is put over it.

Nothing is unpacked, so no privilege is needed to carry owners, modes and device nodes, and the order is fixed.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

#: Returns the path under which an entry is kept, or nothing when it is dropped.
Rule = Callable[[str], str | None]
#: Path → type, mode, owner, size, checksum or link target. The root's own path is the empty one.
Entries = dict[str, dict[str, Any]]

_KINDS = {tarfile.DIRTYPE: "dir", tarfile.SYMTYPE: "link", tarfile.LNKTYPE: "hard", tarfile.REGTYPE: "file"}
#: A file of this name says that the lower layer's entry is gone (aufs' convention, which mkfs.erofs reads).
WHITEOUT = ".wh."


@dataclass
class Addition:
    """An entry that is put over whatever the packages have at its path.

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
class Join:
    """Joins tars that share no file into one.

    :ivar epoch: times are clamped to it (seconds since 1970).
    :ivar wanted: of which files and links the content is kept in :attr:`kept`.
    :ivar set_id: which programs keep their setuid and setgid bits.
    :ivar entries: what was written.
    :ivar kept: path → link target or nothing, content.
    """

    epoch: int
    rule: Rule
    wanted: Callable[[str], bool] = lambda path: False
    set_id: Callable[[str], bool] = lambda path: True
    entries: Entries = field(default_factory=dict)
    kept: dict[str, tuple[str | None, str]] = field(default_factory=dict)

    def write(self, tars: Iterable[Path], out: IO[bytes]) -> None:
        """Write the joined tree to a stream.

        :raises ValueError: two tars hold one file, a hard link points to an entry that was dropped, or a directory
            has extended attributes (they would be lost when something is put into it).
        """
        with _writer(out) as target:
            for tar in tars:
                with tarfile.open(tar, mode="r:") as source:
                    for member in source:
                        self._copy(source, member, target)

    def _copy(self, source: tarfile.TarFile, member: tarfile.TarInfo, target: tarfile.TarFile) -> None:
        path = plain(member.name)
        kept = self.rule(path) if path else ""
        if kept is None:
            return
        if kept in self.entries:
            if member.isdir():
                return
            raise ValueError(f"two layers hold /{kept}")
        member.name = f"./{kept}" if kept else "."
        if member.islnk():
            linked = self.rule(plain(member.linkname))
            if linked is None or linked not in self.entries:
                raise ValueError(f"/{path} is a hard link to /{plain(member.linkname)}, which is dropped")
            member.linkname = f"./{linked}"
        member.mtime = min(int(member.mtime), self.epoch)
        member.uname = member.gname = ""
        member.pax_headers = {k: v for k, v in member.pax_headers.items() if k.startswith("SCHILY.xattr.")}
        if member.isdir() and member.pax_headers:
            raise ValueError(f"/{path} is a directory with extended attributes")
        if not member.isdir() and not self.set_id(kept):
            member.mode &= 0o1777
        content = b""
        if member.isreg():
            stream = source.extractfile(member)
            assert stream is not None
            content = stream.read()
            if kept.endswith(".pyc"):
                content = unchecked(content)
        target.addfile(member, io.BytesIO(content) if member.isreg() else None)
        self.entries[kept] = entry(member, content)
        if self.wanted(kept):
            self.kept[kept] = (member.linkname if member.issym() else None, content.decode())


@dataclass
class Overlay:
    """What is put over a finished tree, or taken from it.

    :ivar below: the entries of that tree.
    :ivar epoch: the time of everything that is put over it (seconds since 1970).
    """

    below: Entries
    epoch: int
    additions: dict[str, Addition] = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)

    def add(self, *additions: Addition) -> None:
        """Put entries over the tree's; a later one wins."""
        for addition in additions:
            self.additions[addition.path] = addition

    def write(self, out: IO[bytes]) -> Entries:
        """Write a tar of the changed entries and of all folders above them.

        :returns: the entries of the whole tree.
        :raises ValueError: a file would take the place of a folder or the other way round, something lies below a
            path that is no folder, or a file with several names is replaced.
        """
        named_twice = {plain(one["target"]) for one in self.below.values() if one["type"] == "hard"}
        changed = {**self.additions, **dict.fromkeys(self.removed - self.additions.keys())}
        folders = {str(parent) for path in changed for parent in Path(path).parents} - {"."} - self.additions.keys()
        for path in folders:
            changed[path] = self._folder(path)
        entries = {path: one for path, one in self.below.items() if path not in self.removed}
        with _writer(out) as target:
            self._write(self._folder(""), target)
            for path in sorted(changed):
                addition = changed[path]
                if path in named_twice:
                    raise ValueError(f"/{path} has other names, which a new content would not reach")
                if addition is None:
                    folder, _, name = path.rpartition("/")
                    self._write(Addition(f"{folder}/{WHITEOUT}{name}", 0o644, b""), target)
                    continue
                there = self.below.get(path)
                if there and (there["type"] == "dir") != (addition.content is None and addition.link is None):
                    raise ValueError(f"/{path} is a {there['type']} in the packages")
                entries[path] = self._write(addition, target)
        return entries

    def _folder(self, path: str) -> Addition:
        """A folder as it is, or as it is made for what lies in it."""
        there = self.below.get(path, {"type": "dir", "mode": "0755", "owner": "0:0"})
        if there["type"] != "dir":
            raise ValueError(f"/{path} is no folder in the packages")
        uid, gid = there["owner"].split(":")
        return Addition(path, int(there["mode"], 8), uid=int(uid), gid=int(gid))

    def _write(self, addition: Addition, target: tarfile.TarFile) -> dict[str, Any]:
        member = tarfile.TarInfo(f"./{addition.path}" if addition.path else ".")
        member.mode, member.uid, member.gid, member.mtime = addition.mode, addition.uid, addition.gid, self.epoch
        content = addition.content or b""
        if addition.link is not None:
            member.type, member.linkname, member.mode = tarfile.SYMTYPE, addition.link, 0o777
        elif addition.content is None:
            member.type = tarfile.DIRTYPE
        member.size = len(content)
        target.addfile(member, io.BytesIO(content))
        return entry(member, content)


class _Pipe(io.RawIOBase):
    """A pipe that tells how much went through. (tarfile's own stream mode copies everything once more.)"""

    def __init__(self, out: IO[bytes]) -> None:
        self._out, self._written = out, 0

    def tell(self) -> int:
        return self._written

    def write(self, data: Any) -> int:
        self._out.write(data)
        self._written += len(data)
        return len(data)


def _writer(out: IO[bytes]) -> tarfile.TarFile:
    return tarfile.open(fileobj=_Pipe(out), mode="w:", format=tarfile.PAX_FORMAT)


def entry(member: tarfile.TarInfo, content: bytes) -> dict[str, Any]:
    """What `entries.json` says of a member."""
    said: dict[str, Any] = {
        "type": _KINDS.get(member.type, "special"),
        "mode": f"{member.mode & 0o7777:04o}",
        "owner": f"{member.uid}:{member.gid}",
    }
    if member.isreg():
        said |= {"size": member.size, "sha256": hashlib.sha256(content).hexdigest()}
    if member.linkname:
        said["target"] = member.linkname
    return said


def dump(entries: Entries, file: Path) -> None:
    """Write entries as JSON, one line for each, sorted."""
    # With `indent` json is many times slower: it leaves its C code.
    lines = (f"{json.dumps(path)}:{json.dumps(entries[path], sort_keys=True)}" for path in sorted(entries))
    file.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def unchecked(pyc: bytes) -> bytes:
    """A compiled Python module whose hash is not compared with its source at import (PEP 552): both are read-only."""
    return pyc[:4] + b"\1\0\0\0" + pyc[8:] if pyc[4:8] == b"\3\0\0\0" else pyc


def plain(name: str) -> str:
    """A member's name without the leading ``./`` and the trailing slash; the root is the empty name."""
    return name.removeprefix("./").strip("/") if name != "." else ""
