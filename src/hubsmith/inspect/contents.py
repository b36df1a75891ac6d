"""Contents of a disk (raw or qcow2) or a root file system (EROFS), read without booting or mounting it."""

from __future__ import annotations

import hashlib
import json
import stat
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hubsmith import files
from hubsmith.inspect.inodes import Erofs, Inode
from hubsmith.paths import cache_dir
from hubsmith.run import run

#: Kind → offset and magic bytes. The header of a GPT is in the second sector.
_MAGIC = {"qcow2": (0, b"QFI\xfb"), "raw": (512, b"EFI PART"), "erofs": (1024, b"\xe2\xe1\xf5\xe0")}
#: Partition types of the UAPI group's Discoverable Partitions Specification, and GRUB's.
_ESP = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
_BIOS = "21686148-6449-6e6f-744e-656564454649"
_ROOT = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709"
_MIB = 1024 * 1024
#: Path in a root of the manifest from which it was built.
MANIFEST = "usr/lib/hubsmith/manifest.json"

#: Item for the whole EFI system partition. It is redundant if a file in it differs (:func:`diff.diff`).
WHOLE_ESP = "esp"

Things = dict[str, dict[str, Any]]


def kind(path: Path) -> str | None:
    """Return the kind of a file (`qcow2`, `raw`, `erofs` or None), by its magic bytes."""
    with path.open("rb") as file:
        head = file.read(2048)
    return next((name for name, (at, magic) in _MAGIC.items() if head[at : at + len(magic)] == magic), None)


def read(path: Path) -> tuple[Things, dict[str, Any] | None]:
    """Return the partitions, the files of the EFI system partition and the root's entries, and the root's manifest.

    :raises HubsmithError: a required tool is missing or failed.
    """
    cache_dir().mkdir(parents=True, exist_ok=True)
    # Several GB: too much for a /tmp in memory.
    with TemporaryDirectory(prefix="diff-", dir=cache_dir()) as folder:
        scratch = Path(folder)
        if kind(path) == "erofs":
            return _root(path, scratch)
        disk = path
        if kind(path) == "qcow2":
            disk = scratch / "disk.raw"
            run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", path, disk], timeout=600)
        return _disk(disk, scratch)


def _disk(disk: Path, scratch: Path) -> tuple[Things, dict[str, Any] | None]:
    table = json.loads(run(["sfdisk", "--json", disk]).stdout)["partitiontable"]
    sector = table["sectorsize"]
    things: Things = {"disk": {"uuid": table["id"], "size": disk.stat().st_size}}
    with disk.open("rb") as file:
        things["boot sector"] = {"sha256": hashlib.sha256(file.read(440)).hexdigest()}
    manifest = None
    for row in table["partitions"]:
        name, start, size = row.get("name", row["node"]), row["start"] * sector, row["size"] * sector
        thing = {"start": start, "bytes": size, "type": row["type"].lower(), "uuid": row["uuid"].lower()}
        things[f"partition {name}"] = thing
        part = scratch / f"{row['start']}.img"
        _cut(disk, start, size, part)
        if thing["type"] == _ESP:
            things |= _esp(part, scratch)
        elif thing["type"] == _ROOT:
            inside, manifest = _root(part, scratch)
            things |= inside
        elif thing["type"] == _BIOS:
            things[f"partition {name}"] |= {"sha256": files.sha256(part)}
        part.unlink()
    return things, manifest


def _cut(disk: Path, start: int, size: int, out: Path) -> None:
    """Copy a part of a disk into a sparse file."""
    with disk.open("rb") as source, out.open("wb") as target:
        source.seek(start)
        target.truncate(size)
        for offset in range(0, size, _MIB):
            block = source.read(min(_MIB, size - offset))
            if block.count(0) != len(block):
                target.seek(offset)
                target.write(block)


def _esp(image: Path, scratch: Path) -> Things:
    folder = scratch / "esp"
    folder.mkdir()
    # -m keeps the files' times, which are part of the image's bytes.
    run(["mcopy", "-s", "-n", "-m", "-i", image, "::/", folder], env={"TZ": "UTC"})
    things: Things = {
        f"esp /{file.relative_to(folder)}": {
            "size": file.stat().st_size,
            "mtime": int(file.stat().st_mtime),
            "sha256": files.sha256(file),
        }
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }
    # The order of each folder's entries is part of the bytes, too.
    for path in run(["mdir", "-b", "-/", "-a", "-i", image, "::/"]).stdout.splitlines():
        parent, _, name = path.removeprefix("::/").rstrip("/").rpartition("/")
        things.setdefault(f"esp /{parent}", {"entries": []})["entries"].append(name)
    return {**things, WHOLE_ESP: {"sha256": files.sha256(image)}}


def _root(image: Path, scratch: Path) -> tuple[Things, dict[str, Any] | None]:
    folder = scratch / "root"
    run(["fsck.erofs", f"--extract={folder}", "--no-preserve", image], timeout=900)
    run(["chmod", "-R", "u+rwX", folder])  # so that other users than root can read and delete it
    things: Things = {f"entry /{path}": _entry(inode, folder / path) for path, inode in Erofs(image).walk()}
    file = folder / MANIFEST
    return things, json.loads(file.read_text()) if file.is_file() else None


def _entry(inode: Inode, extracted: Path) -> dict[str, Any]:
    kinds = {stat.S_IFDIR: "dir", stat.S_IFLNK: "link", stat.S_IFREG: "file"}
    entry: dict[str, Any] = {
        "type": kinds.get(stat.S_IFMT(inode.mode), "special"),
        "mode": f"{stat.S_IMODE(inode.mode):04o}",
        "owner": f"{inode.uid}:{inode.gid}",
        "mtime": inode.mtime,
    }
    if entry["type"] == "file":
        entry |= {"size": inode.size, "sha256": files.sha256(extracted)}
    elif inode.target is not None:
        entry["target"] = inode.target
    elif entry["type"] == "special":
        entry["device"] = inode.device
    return entry
