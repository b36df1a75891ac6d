"""Root file systems as tar streams: join tars under a rule, and add entries on top.

Nothing is unpacked. So owners, modes and device nodes are preserved without privileges, and the order is fixed.
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

#: Maps an entry's path to its path in the result; None drops the entry.
Rule = Callable[[str], str | None]
#: Path → type, mode, owner, size, checksum or link target. The path of the root is empty.
Entries = dict[str, dict[str, Any]]

_KINDS = {tarfile.DIRTYPE: "dir", tarfile.SYMTYPE: "link", tarfile.LNKTYPE: "hard", tarfile.REGTYPE: "file"}
#: Name prefix of a whiteout, which removes the lower layer's entry (aufs' convention, supported by mkfs.erofs).
WHITEOUT = ".wh."


@dataclass
class Addition:
    """An entry that replaces the packages' entry at its path, if any.

    :ivar content: content of a regular file; None for a directory or a symbolic link.
    :ivar link: target of a symbolic link.
    """

    path: str
    mode: int
    content: bytes | None = None
    link: str | None = None
    uid: int = 0
    gid: int = 0


@dataclass
class Join:
    """Joins tars without common files into one.

    :ivar epoch: latest timestamp (seconds since 1970). Later ones are replaced by it.
    :ivar rule: maps the path of each entry.
    :ivar wanted: selects files and links whose content is stored in :attr:`kept`.
    :ivar set_id: selects programs that keep their setuid and setgid bits.
    :ivar entries: entries that were written.
    :ivar kept: path → link target or None, and content.
    """

    epoch: int
    rule: Rule
    wanted: Callable[[str], bool] = lambda path: False
    set_id: Callable[[str], bool] = lambda path: True
    entries: Entries = field(default_factory=dict)
    kept: dict[str, tuple[str | None, str]] = field(default_factory=dict)

    def write(self, tars: Iterable[Path], out: IO[bytes]) -> None:
        """Write the joined tree to a stream.

        :raises ValueError: two tars contain the same file, a hard link points to a dropped entry, or a directory has
            extended attributes (they would be lost when an entry is added to it).
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
    """Additions to a finished tree, and removals from it.

    :ivar below: entries of that tree.
    :ivar epoch: timestamp of the additions (seconds since 1970).
    """

    below: Entries
    epoch: int
    additions: dict[str, Addition] = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)

    def add(self, *additions: Addition) -> None:
        """Add entries. They replace entries of the tree, and earlier additions, at the same path."""
        for addition in additions:
            self.additions[addition.path] = addition

    def write(self, out: IO[bytes]) -> Entries:
        """Write a tar of the changed entries and of all their parent folders.

        :returns: entries of the whole tree.
        :raises ValueError: a file would replace a folder or vice versa, a parent is not a folder, or a file with
            several hard links would be replaced.
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
        """Return a folder of the tree, or a new one with the default mode and owner."""
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
    """Pipe that supports ``tell``, for tarfile. (tarfile's stream mode would copy all data once more.)"""

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
    """Return the entry of a tar member for `entries.json`."""
    found: dict[str, Any] = {
        "type": _KINDS.get(member.type, "special"),
        "mode": f"{member.mode & 0o7777:04o}",
        "owner": f"{member.uid}:{member.gid}",
    }
    if member.isreg():
        found |= {"size": member.size, "sha256": hashlib.sha256(content).hexdigest()}
    if member.linkname:
        found["target"] = member.linkname
    return found


def dump(entries: Entries, file: Path) -> None:
    """Write entries as JSON, sorted, one per line."""
    # With `indent`, json does not use its C encoder and is many times slower.
    lines = (f"{json.dumps(path)}:{json.dumps(entries[path], sort_keys=True)}" for path in sorted(entries))
    file.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def unchecked(pyc: bytes) -> bytes:
    """Mark a hash-based pyc as unchecked (PEP 552): pyc and source are read-only, so imports need not compare them."""
    return pyc[:4] + b"\1\0\0\0" + pyc[8:] if pyc[4:8] == b"\3\0\0\0" else pyc


def plain(name: str) -> str:
    """Return a member's name without leading ``./`` and trailing slash. The root's name is empty."""
    return name.removeprefix("./").strip("/") if name != "." else ""
