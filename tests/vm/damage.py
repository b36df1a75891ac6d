"""Damage on the system disk of a machine that is off, in a layer over the image: the image itself is never written."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

from hubsmith.run import run
from hubsmith.vm import disks
from hubsmith.vm.command import DISK
from hubsmith.vm.machine import Snapshot

SECTOR = 512
MIB = 1024 * 1024


def cut(disk: Path, start: int, size: int, out: Path) -> Path:
    """Copy a part of the disk that a qcow2 file holds (bytes; multiples of a sector) into a sparse file."""
    source = {
        "driver": "raw", "offset": start, "size": size,
        "file": {"driver": "qcow2", "file": {"driver": "file", "filename": str(disk)}},
    }  # fmt: skip
    run(["qemu-img", "convert", "-O", "raw", f"json:{json.dumps(source)}", out], timeout=120)
    return out


def partition(image: Path, label: str, scratch: Path) -> tuple[int, int]:
    """Start and size in bytes of a partition of the image."""
    table = cut(image, 0, MIB, scratch / "table.raw")
    with table.open("r+b") as file:
        file.truncate(disks.virtual_size(image))  # sfdisk wants the table to fit the disk
    rows = json.loads(run(["sfdisk", "--json", table]).stdout)["partitiontable"]["partitions"]
    row = next(row for row in rows if row["name"] == label)
    return row["start"] * SECTOR, row["size"] * SECTOR


def place_of(image: Path, path: str, scratch: Path) -> int:
    """Where on the disk a byte of a file of the root lies: one in the middle of its first extent."""
    start, size = partition(image, "root-a", scratch)
    root = cut(image, start, size, scratch / "root.raw")
    shown = run(["dump.erofs", f"--path={path}", "-e", root]).stdout
    # "   0:        0..  133504 |  133504 :  419946496.. 420012032 |   65536"
    first = re.search(r"^ *0: .*: +(\d+)\.\. *(\d+) \|", shown, re.MULTILINE)
    assert first, f"dump.erofs shows no extent of {path}:\n{shown}"
    return start + (int(first[1]) + int(first[2])) // 2


def flip(disk: Path, place: int, scratch: Path) -> None:
    """Turn one byte of a machine's disk into its opposite."""
    sector = place - place % SECTOR
    before = cut(disk, sector, SECTOR, scratch / "sector.raw").read_bytes()[place - sector]
    run(["qemu-io", "-f", "qcow2", "-c", f"write -P {before ^ 0xFF} {place} 1", disk], timeout=60)
    after = cut(disk, sector, SECTOR, scratch / "sector.raw").read_bytes()[place - sector]
    assert after == before ^ 0xFF


def damaged(snapshot: Snapshot, place: int, folder: Path) -> Snapshot:
    """The same frozen machine with one flipped byte on its disk; ``folder`` is made."""
    folder.mkdir()
    for file in snapshot.folder.iterdir():
        if file.name != DISK:
            (folder / file.name).symlink_to(file)
    disks.overlay(snapshot.folder / DISK, folder / DISK)
    flip(folder / DISK, place, folder)
    return dataclasses.replace(snapshot, folder=folder)


def written(disk: Path) -> list[dict[str, object]]:
    """The parts of a machine's disk that were written since it was laid over the image."""
    rows = json.loads(run(["qemu-img", "map", "-f", "qcow2", "--output=json", disk], timeout=60).stdout)
    return [row for row in rows if row["depth"] == 0 and (row["data"] or row["present"])]
