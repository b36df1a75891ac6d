"""Which disk is taken for the data volume; the rest is proven in virtual machines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hubsmith_data_volume.prepare import choose

MIB = 1024**2
#: An OpenStack volume; the serial number of a virtio-blk disk is cut.
VOLUME = "2f7c1d5e-6a0b-4c39-9d53-0c1c8f1f6b1e"

Disk = dict[str, Any]


def disk(path: Path, serial: str = "", size: int = 32 * MIB, **more: Any) -> Disk:
    """A file as `lsblk` would tell of it, if it were a disk."""
    if not path.exists():
        with path.open("wb") as file:
            file.truncate(size)
    return {"path": str(path), "serial": serial or None, "fstype": None, "size": size, **more}


def ours(path: Path, serial: str = "") -> Disk:
    """A disk with the two partitions of a data volume."""
    labels = ("hub-state", "hub-homes")
    return disk(path, serial, children=[{"path": f"{path}{n}", "partlabel": one} for n, one in enumerate(labels)])


def test_the_named_volume_is_taken_whole_or_cut(tmp_path: Path) -> None:
    other = disk(tmp_path / "a", "other")
    for serial in (VOLUME, VOLUME[:20]):
        wanted = disk(tmp_path / "b", serial)
        assert choose([other, wanted], VOLUME) == wanted


def test_a_part_of_a_serial_number_names_nothing(tmp_path: Path) -> None:
    why = choose([disk(tmp_path / "a", VOLUME[:8]), disk(tmp_path / "b")], VOLUME)
    assert (
        why == f"no volume '{VOLUME}' is attached; attached: {tmp_path}/a (2f7c1d5e), {tmp_path}/b (no serial number)"
    )


def test_auto_takes_ours_before_a_blank_one(tmp_path: Path) -> None:
    blank, known = disk(tmp_path / "a"), ours(tmp_path / "b")
    assert choose([blank, known], "auto") == known
    assert choose([blank], "auto") == blank


def test_auto_does_not_guess(tmp_path: Path) -> None:
    blank = [disk(tmp_path / "a"), disk(tmp_path / "b")]
    assert "which volume?" in choose(blank, "auto")
    assert "which volume?" in choose([ours(tmp_path / "c"), ours(tmp_path / "d")], "auto")


@pytest.mark.parametrize("place", [0, 4096, MIB - 1, 31 * MIB, 32 * MIB - 1])
def test_what_holds_anything_is_left_alone(tmp_path: Path, place: int) -> None:
    held = disk(tmp_path / "a", "data")
    with (tmp_path / "a").open("r+b") as file:
        file.seek(place)
        file.write(b"x")
    for volume in ("data", "auto"):
        assert "neither blank nor the data volume of a hub" in choose([held], volume)


@pytest.mark.parametrize("kind", ["ext4", "swap", "xfs"])
def test_another_file_system_is_left_alone(tmp_path: Path, kind: str) -> None:
    held = disk(tmp_path / "a", "data", fstype=kind)
    assert f"({kind})" in choose([held], "data")


def test_a_disk_with_partitions_is_left_alone(tmp_path: Path) -> None:
    held = disk(tmp_path / "a", "data", children=[{"path": "/dev/x1", "partlabel": "hub-state"}])
    assert "left alone" in choose([held], "data")
