"""Frozen machines that outlive a run, with a guest of one boot sector."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny

from hubsmith.testing.frozen import MOST_AGE, FrozenMachines
from hubsmith.vm import disks
from hubsmith.vm.hardware import Hardware, Volume
from hubsmith.vm.machine import Snapshot, VirtualMachine
from hubsmith.vm.testbed import Testbed, ssh_key

pytestmark = [pytest.mark.vm, pytest.mark.needs(memory_mb=256)]

SMALL = Hardware(firmware="bios", memory_mb=64, cpus=1, forwards={22: 0}, volumes=(Volume("data", 1),))


@pytest.fixture
def bed() -> Iterator[Testbed]:
    with Testbed() as made:
        yield made


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    return tiny.make_image(tmp_path / "tiny.raw")


def freeze(bed: Testbed, image: Path, label: str = "x") -> Snapshot:
    """A guest that has counted to two and written that to its disk."""
    machine = VirtualMachine(bed, f"tiny-{label}", image, SMALL)
    machine.start()
    machine.wait_for_console("tiny: ready", 30)
    machine.send_console("ccw")
    machine.wait_for_console("tiny: 2\ntiny: 2\n", 30)
    return machine.snapshot(label, resume=False)


def assert_goes_on(bed: Testbed, name: str, snapshot: Snapshot) -> None:
    machine = VirtualMachine(bed, name, snapshot.image, snapshot.hardware)
    machine.restore(snapshot)
    machine.send_console("lcw")
    machine.wait_for_console("tiny: 2\ntiny: 3\ntiny: 3\n", 30)
    machine.kill()


def test_a_machine_goes_on_in_a_later_run_and_another_tree(disk: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with Testbed() as bed, FrozenMachines(cache) as frozen:
        assert frozen.load("key", disk) is None
        stored = frozen.store("key", freeze(bed, disk))
        assert stored.folder == cache / "key"
        assert_goes_on(bed, "same-run", stored)
    moved = tmp_path / "elsewhere.raw"
    disk.rename(moved)
    for number in range(2):
        with Testbed() as bed, FrozenMachines(cache) as frozen:
            loaded = frozen.load("key", moved)
            assert loaded is not None
            assert (loaded.hardware, loaded.image) == (SMALL, moved)
            assert_goes_on(bed, f"later-{number}", loaded)


def test_what_is_in_use_is_neither_replaced_nor_removed(bed: Testbed, disk: Path, tmp_path: Path) -> None:
    with FrozenMachines(tmp_path / "cache") as first:
        stored = first.store("key", freeze(bed, disk))
        with FrozenMachines(tmp_path / "cache", limit=0) as second:
            mine = second.store("key", freeze(bed, disk, "again"))
            assert mine.folder.parent == bed.folder
            other = second.store("other", freeze(bed, disk, "other"))
            assert other.folder.exists(), "it is over the limit, and its own"
        assert_goes_on(bed, "first", stored)
    with FrozenMachines(tmp_path / "cache", limit=0) as third:
        third.store("third", freeze(bed, disk, "third"))
        assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == ["third"]


def test_a_run_that_was_faster_is_left_alone(
    bed: Testbed, disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rebase = disks.rebase

    def be_faster(layer: Path, backing: str) -> None:
        (tmp_path / "cache/other").rename(tmp_path / "cache/key")
        rebase(layer, backing)

    with FrozenMachines(tmp_path / "cache") as frozen:
        frozen.store("other", freeze(bed, disk, "other"))
        snapshot = freeze(bed, disk)
        monkeypatch.setattr(disks, "rebase", be_faster)
        assert frozen.store("key", snapshot) == snapshot
        assert_goes_on(bed, "second", snapshot)
        assert [path.name for path in (tmp_path / "cache").iterdir()] == ["key"]


def test_the_least_recently_used_is_removed_first(bed: Testbed, disk: Path, tmp_path: Path) -> None:
    with FrozenMachines(tmp_path / "cache") as frozen:
        size = sum(path.lstat().st_blocks * 512 for path in frozen.store("a", freeze(bed, disk, "a")).folder.iterdir())
        frozen.store("b", freeze(bed, disk, "b"))
    now = time.time()
    for age, name in enumerate(("b", "a")):
        os.utime(tmp_path / "cache" / name, (now - 60 * age, now - 60 * age))
    with FrozenMachines(tmp_path / "cache") as frozen:
        assert frozen.load("a", disk) is not None
    with FrozenMachines(tmp_path / "cache", limit=int(size * 2.5)) as frozen:
        frozen.store("c", freeze(bed, disk, "c"))
        assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == ["a", "c"]


def test_a_machine_that_slept_too_long_is_not_woken(bed: Testbed, disk: Path, tmp_path: Path) -> None:
    with FrozenMachines(tmp_path / "cache") as frozen:
        frozen.store("key", freeze(bed, disk))
    about = tmp_path / "cache/key/snapshot.json"
    about.write_text(json.dumps(json.loads(about.read_text()) | {"frozen": time.time() - MOST_AGE - 1}))
    with FrozenMachines(tmp_path / "cache") as frozen:
        assert frozen.load("key", disk) is None
        again = frozen.store("key", freeze(bed, disk, "again"))
        assert again.folder == tmp_path / "cache/key", "the old one is replaced"
        assert_goes_on(bed, "again", again)


def test_all_testbeds_have_the_same_key(bed: Testbed, tmp_path: Path) -> None:
    with FrozenMachines(tmp_path / "cache") as frozen, Testbed() as other:
        for one in (bed, other):
            frozen.share_key(one)
        assert ssh_key(bed.folder).read_text() == ssh_key(other.folder).read_text()
        assert ssh_key(bed.folder).stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700
    shutil.rmtree(tmp_path / "cache")
