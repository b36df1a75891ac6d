"""The disk of a built image: partitions, seal and boot loaders of both firmwares."""

from __future__ import annotations

import json
import struct
import uuid
import zlib
from pathlib import Path
from typing import Any

import pefile
import pytest
from image_parts import ROOT, SECTOR, Output, Partition

from hubsmith.definition import define
from hubsmith.errors import HubsmithError
from hubsmith.run import run

pytestmark = pytest.mark.image

#: The types of the UAPI group's Discoverable Partitions Specification, and GRUB's.
TYPES = {
    "esp": "c12a7328-f81f-11d2-ba4b-00a0c93ec93b",
    "bios": "21686148-6449-6e6f-744e-656564454649",
    "root-a": "4f68bce3-e8cd-4db1-96e7-fbcaf984b709",
    "root-a-verity": "2c7357ed-ebd2-46d9-aec1-23d437ec2bf5",
}


def test_the_disk_is_smaller_than_the_least_disk(output: Output) -> None:
    info = json.loads(run(["qemu-img", "info", "--output=json", output.qcow2]).stdout)
    assert info["format"] == "qcow2"
    assert "backing-filename" not in info
    assert info["virtual-size"] < define(ROOT, "master").image.disk.min_gb * 1024**3 <= 20 * 1024**3


def test_the_partitions_are_those_of_the_definition(
    partitions: dict[str, Partition], table: dict[str, Any], output: Output
) -> None:
    sizes = output.json("manifest.json")["disk"]
    assert {name: part.type for name, part in partitions.items()} == TYPES
    assert partitions["esp"].size == sizes["esp_mb"] * 1024**2
    assert partitions["root-a"].size == sizes["root_slot_mb"] * 1024**2
    assert partitions["root-a-verity"].size == sizes["verity_slot_mb"] * 1024**2
    assert table["sectorsize"] == SECTOR


def test_both_partition_tables_are_valid_and_agree(disk: Path) -> None:
    size = disk.stat().st_size
    with disk.open("rb") as file:

        def header(sector: int) -> tuple[Any, ...]:
            """The fields of a header (UEFI 2.10, table 5.5), its checksums verified."""
            file.seek(sector * SECTOR)
            raw = file.read(92)
            fields = struct.unpack("<8sIIIIQQQQ16sQIII", raw)
            assert fields[0] == b"EFI PART", f"sector {sector}"
            assert zlib.crc32(raw[:16] + bytes(4) + raw[20:]) == fields[3]
            file.seek(fields[10] * SECTOR)
            assert zlib.crc32(file.read(fields[11] * fields[12])) == fields[13]
            return fields

        first, last = header(1), header(size // SECTOR - 1)
    assert (first[5], first[6]) == (1, size // SECTOR - 1)
    assert (last[5], last[6]) == (first[6], first[5])
    assert (first[7:10], first[11:]) == (last[7:10], last[11:])


def test_the_esp_is_fat32(disk: Path, partitions: dict[str, Partition]) -> None:
    with disk.open("rb") as file:
        file.seek(partitions["esp"].start)
        boot = file.read(SECTOR)
    assert boot[82:90] == b"FAT32   "
    sector, cluster, reserved, fats = struct.unpack_from("<HBHB", boot, 11)
    sectors, fat_size = struct.unpack_from("<II", boot, 32)
    clusters = (sectors - reserved - fats * fat_size) // cluster
    assert sectors * sector == partitions["esp"].size
    # Firmware takes fewer for FAT16, whatever the name says (Microsoft's FAT specification 1.03, p. 14).
    assert clusters >= 65525


def test_uefi_starts_the_sealed_root(esp: Path, output: Output) -> None:
    manager = pefile.PE(str(esp / "EFI/BOOT/BOOTX64.EFI"))
    assert manager.OPTIONAL_HEADER.Subsystem == pefile.SUBSYSTEM_TYPE["IMAGE_SUBSYSTEM_EFI_APPLICATION"]
    kernels = list((esp / "EFI/Linux").iterdir())
    assert len(kernels) == 1
    sections = {s.Name.rstrip(b"\0"): s.get_data()[: s.Misc_VirtualSize] for s in pefile.PE(str(kernels[0])).sections}
    cmdline = sections[b".cmdline"].rstrip(b"\0\n ").decode()
    assert cmdline.split() == [*output.json("manifest.json")["kernel"]["cmdline"], f"roothash={output.roothash}"]
    # BIOS starts the same: see below.
    assert sections[b".linux"] == (esp / "grub/vmlinuz").read_bytes()
    assert sections[b".initrd"] == (esp / "grub/initrd").read_bytes()
    assert f"linux /grub/vmlinuz {cmdline}\n" in (esp / "grub/grub.cfg").read_text()
    assert "editor no" in (esp / "loader/loader.conf").read_text().splitlines()


def test_bios_finds_grub(disk: Path, partitions: dict[str, Partition]) -> None:
    part = partitions["bios"]
    with disk.open("rb") as file:
        boot = file.read(SECTOR)
        file.seek(part.start)
        core = file.read(part.size)
    assert boot[:2] == b"\xeb\x63" and boot[510:] == b"\x55\xaa", "no boot code"
    assert b"GRUB " in boot
    # Where the boot sector loads the core's first sector from, and no check of the drive's number.
    assert struct.unpack_from("<Q", boot, 0x5C)[0] == part.start // SECTOR
    assert boot[0x66:0x68] == b"\x90\x90"
    # The protective entry of the GPT is left alone.
    assert boot[446 + 4] == 0xEE
    # The first sector of the core loads all the others: the list of blocks at its end.
    start, count, segment = struct.unpack_from("<QHH", core, SECTOR - 12)
    assert (start, segment) == (part.start // SECTOR + 1, 0x820)
    used = len(core.rstrip(b"\0"))
    assert (count + 1) * SECTOR >= used > (count - 1) * SECTOR
    assert struct.unpack_from("<QHH", core, SECTOR - 24) == (0, 0, 0), "more than one block"


def test_the_hashes_seal_the_root(erofs: Path, verity: Path, output: Output, partitions: dict[str, Partition]) -> None:
    run(["veritysetup", "verify", erofs, verity, output.roothash], timeout=300)
    # systemd finds the partitions of a root hash by these (Discoverable Partitions Specification).
    assert uuid.UUID(output.roothash[:32]) == uuid.UUID(partitions["root-a"].uuid)
    assert uuid.UUID(output.roothash[32:]) == uuid.UUID(partitions["root-a-verity"].uuid)


@pytest.mark.parametrize("where", [4096 * 7 + 11, 300 * 1024**2 + 1, -1], ids=["start", "middle", "end"])
def test_a_flipped_byte_breaks_the_seal(where: int, erofs: Path, verity: Path, output: Output, scratch: Path) -> None:
    flipped = scratch / "flipped.img"
    run(["cp", "--sparse=always", "--reflink=auto", erofs, flipped])
    with flipped.open("r+b") as file:
        offset = where % flipped.stat().st_size
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))
    with pytest.raises(HubsmithError, match="erif"):
        run(["veritysetup", "verify", flipped, verity, output.roothash], timeout=300)
    flipped.unlink()


def test_another_root_hash_is_refused(erofs: Path, verity: Path, output: Output) -> None:
    other = ("1" if output.roothash[0] == "0" else "0") + output.roothash[1:]
    with pytest.raises(HubsmithError, match="root hash"):
        run(["veritysetup", "verify", erofs, verity, other], timeout=300)
