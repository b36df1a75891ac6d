"""The EFI system partition's file system: the same bytes, whatever the folder's own order and times."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from hubsmith import files
from hubsmith.disk import esp
from hubsmith.run import run

MIB = 1024 * 1024
#: So many that no file system lists them in order by chance.
NAMES = [f"{letter}{number}" for letter in "QZMAHX" for number in range(5)]


def tree(folder: Path, names: Iterable[str]) -> Path:
    """A folder as the build makes it, with its entries made in this order."""
    for name in names:
        (folder / "EFI" / name).mkdir(parents=True)
        (folder / "EFI" / name / "program-with-a-long-name.efi").write_text(name)
        (folder / f"{name}.conf").write_text(name)
    return folder


@pytest.fixture(autouse=True)
def epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")


def listed(image: Path) -> list[str]:
    """The paths in the order of the folders' own entries."""
    return run(["mdir", "-b", "-/", "-i", image, "::/"]).stdout.split()


def test_entries_are_sorted_and_files_are_whole(tmp_path: Path) -> None:
    image = tmp_path / "esp.img"
    esp.make(image, 40 * MIB, 0x12345678, tree(tmp_path / "tree", NAMES))
    run(["fsck.vfat", "-n", image])
    assert [path for path in listed(image) if path.endswith(".conf")] == [f"::/{name}.conf" for name in sorted(NAMES)]
    programs = [path for path in listed(image) if path.endswith(".efi")]
    assert programs == [f"::/EFI/{name}/program-with-a-long-name.efi" for name in sorted(NAMES)]
    assert [run(["mtype", "-i", image, path]).stdout for path in programs] == sorted(NAMES)
    assert image.read_bytes()[67:71] == bytes.fromhex("78563412")
    assert image.stat().st_size == 40 * MIB


def test_order_times_and_zone_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sums = set()
    for number, (names, zone) in enumerate([(NAMES, "UTC"), (NAMES[::-1], "Asia/Tokyo")]):
        monkeypatch.setenv("TZ", zone)
        folder, image = tree(tmp_path / f"tree-{number}", names), tmp_path / f"{number}.img"
        for path in folder.rglob("*.conf"):
            os.utime(path, (number, number))
        esp.make(image, 40 * MIB, 1, folder)
        sums.add(files.sha256(image))
        time.sleep(2.1)  # FAT counts in two seconds
    assert len(sums) == 1
