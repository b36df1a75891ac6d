"""From power on to a running system: firmwares, disks, and roots and disks that cannot be started."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import damage
import pytest
from hub_fixtures import HARDWARE

from hubsmith.run import run
from hubsmith.vm import disks
from hubsmith.vm.command import DISK
from hubsmith.vm.hardware import Hardware
from hubsmith.vm.linux import Machine
from hubsmith.vm.machine import Snapshot
from hubsmith.vm.metadata import Instance
from hubsmith.vm.waits import wait_until

pytestmark = [pytest.mark.vm, pytest.mark.modules("jupyterhub")]

GIB = 1024**3
#: What of a disk may be left over at its end: systemd-repart rounds to 4 KiB, the partitions begin at 1 MiB.
SLACK = 4 * 1024**2
CORRUPTED = r"device-mapper: verity: .*is corrupted"
PANIC = r"Kernel panic - not syncing: dm-verity device corrupted"


def partitions(machine: Machine) -> dict[str, tuple[int, int]]:
    """Start and size (bytes) of the partitions of the system disk, by label."""
    out = json.loads(machine.succeed("lsblk --json --list --bytes --output PARTLABEL,START,SIZE,TYPE"))["blockdevices"]
    return {row["partlabel"]: (512 * row["start"], row["size"]) for row in out if row["type"] == "part"}


def roothash(machine: Machine) -> str:
    """What the kernel was told to expect."""
    found = re.search(r"\broothash=([0-9a-f]{64})\b", machine.succeed("cat /proc/cmdline"))
    assert found
    return found[1]


def assert_grown(machine: Machine, disk: str, size: int) -> None:
    """The partitions fill a disk of that many bytes, the file systems fill the partitions, the table is sound."""
    assert int(machine.succeed(f"blockdev --getsize64 {disk}")) == size
    table = machine.succeed(f"sgdisk --verify {disk} 2>&1; sfdisk --verify {disk} 2>&1")
    assert "No problems found" in table, table
    assert "No errors detected" in table, table
    # The second table lies in the last sectors: nothing is left behind it.
    last = machine.succeed(f"dd if={disk} bs=512 skip={size // 512 - 1} count=1 status=none | head -c 8")
    assert last == "EFI PART"
    parts = partitions(machine)
    assert set(parts) == {"esp", "bios", "root-a", "root-a-verity", "root-b", "root-b-verity", "state", "homes"}
    assert parts["root-a"][1] == parts["root-b"][1]
    assert size - SLACK < max(start + length for start, length in parts.values()) < size
    assert sum(length for _, length in parts.values()) > size - 2 * SLACK
    for label, folder in (("state", "/var"), ("homes", "/home")):
        have = int(machine.succeed(f"findmnt --noheadings --bytes --output SIZE {folder}"))
        # XFS keeps its log and headers for itself.
        assert 0.97 * parts[label][1] - 128 * 1024**2 < have <= parts[label][1], label


def test_both_firmwares_start_the_same_root_and_the_disk_is_used_to_its_end(
    thaw: Callable[..., Machine], hub_snapshot: Snapshot, bare_snapshot: Snapshot
) -> None:
    efi, bios = thaw(hub_snapshot), thaw(bare_snapshot)
    assert efi.succeed("test -d /sys/firmware/efi && echo efi") == "efi\n"
    bios.fail("test -e /sys/firmware/efi")
    for machine, size in ((efi, 20 * GIB), (bios, 30 * GIB)):
        assert machine.succeed("systemctl is-system-running").strip() == "running"
        assert_grown(machine, "/dev/vda", size)
    assert roothash(efi) == roothash(bios)
    for label in ("state", "homes"):
        assert partitions(bios)[label][1] > partitions(efi)[label][1]


@pytest.mark.slow
def test_a_disk_that_became_larger_is_used_at_the_next_boot(bare: Machine) -> None:
    bare.succeed("echo kept > /var/kept; echo kept > /home/kept; sync")
    before = partitions(bare)
    bare.shutdown()
    run(["qemu-img", "resize", "-q", "-f", "qcow2", bare.folder / DISK, "40G"])
    bare.start()
    bare.wait_for_ssh(400)
    bare.wait_for_unit("local-fs.target")
    assert_grown(bare, "/dev/vda", 40 * GIB)
    after = partitions(bare)
    # State stands before homes and cannot grow; nothing moves.
    assert {label: start for label, (start, _) in before.items()} == {label: at for label, (at, _) in after.items()}
    assert after["homes"][1] == before["homes"][1] + 10 * GIB
    assert bare.succeed("cat /var/kept /home/kept") == "kept\nkept\n"


@pytest.mark.slow
def test_a_disk_on_scsi_with_several_queues(make_machine: Callable[..., Machine]) -> None:
    hardware = Hardware(memory_mb=2048, cpus=2, disk_bus="virtio-scsi", disk_size_gb=20)
    machine = make_machine("scsi", hardware, instance=Instance(hostname="scsi"))
    machine.start()
    machine.wait_for_boot(600)
    assert machine.succeed("test -d /sys/firmware/efi && ls -d /sys/block/sda/mq/* | wc -l").strip() == "2"
    assert_grown(machine, "/dev/sda", 20 * GIB)


@pytest.mark.slow
@pytest.mark.allow("verity|Kernel panic", "the root is damaged on purpose")
def test_a_flipped_byte_that_is_read_at_boot_is_never_served(
    make_machine: Callable[..., Machine], image: Path, tmp_path: Path
) -> None:
    machine = make_machine("flipped", replace(HARDWARE, memory_mb=2048))
    disks.overlay(image, machine.folder / DISK, 20)
    damage.flip(machine.folder / DISK, damage.place_of(image, "/usr/lib/systemd/systemd", tmp_path), tmp_path)
    machine.start()
    machine.wait_for_console(CORRUPTED, timeout=240)
    machine.wait_for_console(PANIC, timeout=30)
    # The restart after 30 s would heal an error in transit; damage that stays is refused again.
    again = machine.console.size()
    wait_until("the second panic", lambda: machine.console.search(PANIC, again), timeout=300, seen=machine.seen)
    assert not machine.console.search(r"login:|hubsmith: (ready|starting)")
    machine.kill()


@pytest.mark.allow("verity|Kernel panic", "the root is damaged on purpose")
def test_a_flipped_byte_that_is_read_later_stops_the_machine(
    thaw: Callable[..., Machine], bare_snapshot: Snapshot, image: Path, tmp_path: Path
) -> None:
    place = damage.place_of(image, "/usr/bin/git", tmp_path)
    machine = thaw(damage.damaged(bare_snapshot, place, tmp_path / "damaged"))
    machine.succeed("systemd-run --quiet --on-active=1 sh -c 'cat /usr/bin/git > /var/served'")
    machine.wait_for_console(PANIC, timeout=60)
    machine.wait_for_console(CORRUPTED, timeout=5)
    machine.kill()


@pytest.mark.allow("Failed with result|Failed to start|Dependency failed|emergency", "the machine must not start")
def test_a_disk_that_is_too_small_is_refused_in_plain_words(make_machine: Callable[..., Machine]) -> None:
    machine = make_machine("small", Hardware(memory_mb=1024, disk_size_gb=6))
    machine.start()
    told = machine.wait_for_console(
        r"hubsmith: the disk /dev/vda is too small: it has (\d+) MB, this image needs (\d+) MB", timeout=240
    )
    assert int(told[1]) == 6 * GIB // 10**6 < int(told[2])
    machine.wait_for_console("launch it with a larger disk", timeout=30)
    wait_until("the machine to switch itself off", lambda: not machine.running, timeout=60, seen=machine.seen)
    assert machine.console.fatal() is None
    assert damage.written(machine.folder / DISK) == []
