"""The partitions, by systemd-repart on a plain file.

The same definitions that a booted machine applies to its disk (`layout`) define the partitions here; drop-ins add what
only the build knows: the contents. Two runs, because the EFI system partition holds the root's verity hash, which
the first run computes.
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

#: The partitions that an image file brings; the others are made at first boot.
IN_IMAGE = ("10-esp", "15-bios", "20-root-a", "21-root-a-verity")


@dataclass(frozen=True)
class Partition:
    """One partition of the disk file: ``start`` and ``size`` in bytes."""

    start: int
    size: int
    roothash: str | None


def definitions(disk: Mapping[str, int], folder: Path, root: Path) -> None:
    """Write the image's own definitions to ``folder`` and add the root's file system and its hashes."""
    own = layout.repart_d(disk)
    folder.mkdir()
    for name in IN_IMAGE:
        (folder / f"{name}.conf").write_text(own[f"{name}.conf"])
    _add(folder, "20-root-a", f"CopyBlocks={root}\nVerity=data\nVerityMatchKey=root-a\n")
    _add(folder, "21-root-a-verity", "Verity=hash\nVerityMatchKey=root-a\n")


def add_esp(folder: Path, image: Path) -> None:
    """Add the EFI system partition's file system to the definitions; systemd-repart opens it in every run."""
    _add(folder, "10-esp", f"CopyBlocks={image}\n")


def _add(folder: Path, name: str, contents: str) -> None:
    drop_in = folder / f"{name}.conf.d"
    drop_in.mkdir()
    (drop_in / "build.conf").write_text("[Partition]\n" + contents)


def partition(disk: Path, folder: Path, seed: uuid.UUID, *, with_esp: bool) -> dict[str, Partition]:
    """Run systemd-repart once; returns the partitions by label."""
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
