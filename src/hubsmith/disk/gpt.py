"""Creation of the partitions in a disk file by systemd-repart.

The partitions are defined by the same files (`layout`) that a machine applies at its first boot. Drop-ins add the
contents, which only the build knows. systemd-repart runs twice: the first run computes the root's verity hash, which is
then written to the EFI system partition.
"""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hubsmith.disk import layout

#: Partitions of an image file. The others are created at first boot.
IN_IMAGE = ("10-esp", "15-bios", "20-root-a", "21-root-a-verity")


@dataclass(frozen=True)
class Partition:
    """A partition of the disk file, with ``start`` and ``size`` in bytes."""

    start: int
    size: int
    roothash: str | None


def definitions(disk: Mapping[str, int], folder: Path, root: Path) -> None:
    """Write the definitions of the image's partitions to ``folder``, with the root file system and its hash tree."""
    own = layout.repart_d(disk)
    folder.mkdir()
    for name in IN_IMAGE:
        (folder / f"{name}.conf").write_text(own[f"{name}.conf"])
    _add(folder, "20-root-a", f"CopyBlocks={root}\nVerity=data\nVerityMatchKey=root-a\n")
    _add(folder, "21-root-a-verity", "Verity=hash\nVerityMatchKey=root-a\n")


def add_esp(folder: Path, image: Path) -> None:
    """Add the EFI system partition's file system to the definitions. systemd-repart opens it in every run."""
    _add(folder, "10-esp", f"CopyBlocks={image}\n")


def _add(folder: Path, name: str, contents: str) -> None:
    drop_in = folder / f"{name}.conf.d"
    drop_in.mkdir()
    (drop_in / "build.conf").write_text("[Partition]\n" + contents)


def partition(disk: Path, folder: Path, seed: uuid.UUID, *, with_esp: bool) -> dict[str, Partition]:
    """Run systemd-repart once and return the partitions by label."""
    first = not disk.exists()
    done = subprocess.run(
        [
            "systemd-repart", "--offline=yes", f"--empty={'create' if first else 'refuse'}", "--dry-run=no",
            *(["--size=auto"] if first else []), f"--seed={seed}", f"--definitions={folder}", "--json=short",
            *([] if with_esp else ["--defer-partitions=esp"]), str(disk),
        ],
        check=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return {row["label"]: Partition(row["offset"], row["raw_size"], row.get("roothash") or None) for row in rows}
