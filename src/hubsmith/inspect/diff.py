"""Comparison of two manifests, two built images or two roots.

Each side is flattened to items with properties (`debian curl`, `entry /etc/passwd`, `value kernel.cmdline`). Items of
the same name are compared property by property.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hubsmith import files
from hubsmith.errors import HubsmithError
from hubsmith.inspect import contents
from hubsmith.output import checksums


class NotComparable(HubsmithError):
    """A side of a comparison is missing or of an unknown kind (exit code 2, as in diff(1))."""

    exit_code = 2


Properties = Mapping[str, Any]
Things = dict[str, Properties]

#: Keys of a manifest that are lists or tables of items. All others are values.
_THINGS = ("debian", "python", "npm", "files", "directories", "templates", "units", "state", "ports", "sources")


@dataclass(frozen=True)
class Change:
    """One difference. ``before`` or ``after`` is None if the item is on one side only."""

    thing: str
    before: Properties | None
    after: Properties | None

    def json(self) -> dict[str, Any]:
        """Return the difference as plain data, with only the properties that differ."""
        if self.before is None or self.after is None:
            return {"thing": self.thing, "before": self.before, "after": self.after}
        keys = [key for key in sorted({*self.before, *self.after}) if self.before.get(key) != self.after.get(key)]
        return {
            "thing": self.thing,
            "before": {key: self.before.get(key) for key in keys},
            "after": {key: self.after.get(key) for key in keys},
        }

    def text(self) -> str:
        """Return the difference as a line: `+`, `-` or `~`, the item, and the properties that differ."""
        if self.before is None:
            return f"+ {self.thing} {_brief(self.after or {})}".rstrip()
        if self.after is None:
            return f"- {self.thing} {_brief(self.before)}".rstrip()
        difference = self.json()
        before, after = difference["before"], difference["after"]
        # Size and checksum follow from the version.
        keys = ["version"] if "version" in before else list(before)
        parts = [f"{key} {_value(before[key])} -> {_value(after[key])}" for key in keys]
        return f"~ {self.thing}: {', '.join(parts)}"

    @property
    def growth(self) -> int:
        """Growth of the image in bytes (installed size of a package, size of a file)."""

        def size(side: Properties | None) -> int:
            return int((side or {}).get("installed_size") or (side or {}).get("size") or 0)

        return size(self.after) - size(self.before)


def _brief(properties: Properties) -> str:
    return str(properties.get("version") or properties.get("mode") or properties.get("value") or "")


def _value(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return text[:12] if len(text) == 64 and set(text) <= set("0123456789abcdef") else text


def diff(before: Things, after: Things) -> list[Change]:
    """Return all differences, sorted by item."""
    different = [thing for thing in sorted({*before, *after}) if before.get(thing) != after.get(thing)]
    # The checksum of the whole EFI system partition follows from the differences in it.
    if any(thing.startswith(f"{contents.WHOLE_ESP} /") for thing in different):
        different = [thing for thing in different if thing != contents.WHOLE_ESP]
    return [Change(thing, before.get(thing), after.get(thing)) for thing in different]


def compare(before: Path, after: Path) -> list[Change]:
    """Return all differences between two paths. For built images, this includes differences inside their disks.

    :raises NotComparable: one of them cannot be read.
    """
    changes = diff(read(before), read(after))
    if before.is_dir() and after.is_dir():
        for change in list(changes):
            name = change.thing.removeprefix("output ")
            disks = before / name, after / name
            if name != change.thing and all(disk.is_file() and contents.kind(disk) for disk in disks):
                known = {one.thing for one in changes}
                changes += [one for one in diff(read(disks[0]), read(disks[1])) if one.thing not in known]
    return sorted(changes, key=lambda one: one.thing)


def read(path: Path) -> Things:
    """Flatten a manifest, a list of entries, a disk or root file system, a tar of a root, or a folder of such files.

    :raises NotComparable: it is none of these.
    """
    if path.is_dir():
        return _folder(path)
    if not path.exists():
        raise NotComparable("there is no such file or folder", where=str(path))
    if contents.kind(path):
        inside, manifest = contents.read(path)
        return {**inside, **(things_of(manifest) if manifest else {})}
    if tarfile.is_tarfile(path):
        return dict(_tar(path))
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError):
        content = None
    if isinstance(content, dict) and "modules" in content and "debian" in content:
        return things_of(content)
    if isinstance(content, dict) and content and all(isinstance(v, dict) and "type" in v for v in content.values()):
        return {f"entry /{name}": entry for name, entry in content.items()}
    raise NotComparable("neither a manifest, nor a disk, nor a root", where=str(path))


def things_of(manifest: Mapping[str, Any]) -> Things:
    """Flatten a manifest to items."""
    return dict(_manifest(manifest))


def _folder(path: Path) -> Things:
    """Flatten the output folder of a stage or build: contents of known files, and the checksum of every file."""
    things: Things = {}
    for name in ("manifest.json", "entries.json"):
        if (path / name).exists():
            things |= read(path / name)
    if sums := checksums(path):
        things |= {f"output {name}": {"sha256": checksum} for name, checksum in sums.items()}
    else:
        for file in sorted(one for one in path.rglob("*") if one.is_file()):
            things[f"output {file.relative_to(path)}"] = {"sha256": files.sha256(file)}
    if not things:
        raise NotComparable("an empty folder", where=str(path))
    return things


def _manifest(manifest: Mapping[str, Any]) -> Iterator[tuple[str, Properties]]:
    for package in manifest["debian"]:
        yield f"debian {package['name']}", package
    for env, content in manifest["python"].items():
        yield f"python {env}", {"requirements": content["requirements"]}
        for wheel in content["wheels"]:
            yield f"python {env}/{wheel['name']}", wheel
    for tree, content in manifest["npm"].items():
        yield f"npm {tree}", {"requirements": content["requirements"]}
        for package in content["packages"]:
            yield f"npm {tree}/{package['location'].removeprefix('node_modules/')}", package
    for kind, key in (("files", "path"), ("directories", "path"), ("templates", "target")):
        for one in manifest[kind]:
            when = f" (when {one['when']})" if "when" in one else ""
            yield f"{kind.rstrip('s') if kind != 'directories' else 'directory'} {one[key]}{when}", one
    for fate, units in manifest["units"].items():
        for unit in units:
            yield f"unit {unit} ({fate})", {}
    for module, states in manifest["state"].items():
        for one in states:
            yield f"state {one['path']}", {**one, "module": module}
    for port in manifest["ports"]:
        yield f"port {port['number']}/{port['protocol']}", port
    for module, checksum in manifest["sources"].items():
        yield f"module {module}", {"sha256": checksum}
    for key in sorted(manifest.keys() - set(_THINGS)):
        yield from _values(key, manifest[key])


def _values(key: str, value: Any) -> Iterator[tuple[str, Properties]]:
    if isinstance(value, dict):
        for name in sorted(value):
            yield from _values(f"{key}.{name}", value[name])
    else:
        yield f"value {key}", {"value": value}


def _tar(path: Path) -> Iterator[tuple[str, Properties]]:
    kinds = {tarfile.DIRTYPE: "dir", tarfile.SYMTYPE: "link", tarfile.LNKTYPE: "hard", tarfile.REGTYPE: "file"}
    with tarfile.open(path) as tar:
        for member in tar:
            entry: dict[str, Any] = {
                "type": kinds.get(member.type, "special"),
                "mode": f"{member.mode & 0o7777:04o}",
                "owner": f"{member.uid}:{member.gid}",
                "mtime": int(member.mtime),
            }
            content = tar.extractfile(member) if member.isreg() else None
            if content is not None:
                entry |= {"size": member.size, "sha256": hashlib.file_digest(content, "sha256").hexdigest()}  # type: ignore[arg-type]
            if member.linkname:
                entry["target"] = member.linkname
            if member.ischr() or member.isblk():
                entry["device"] = f"{member.devmajor}:{member.devminor}"
            entry |= {k: v for k, v in member.pax_headers.items() if k.startswith("SCHILY.xattr.")}
            yield f"entry /{member.name.removeprefix('./').strip('/').removeprefix('.')}", entry
