"""`hubsmith diff` of disks and roots: small ones made here by the real tools, and the built image."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from image_parts import MIB, Output

from hubsmith import files
from hubsmith.cli import main
from hubsmith.inspect import contents
from hubsmith.run import run

pytestmark = pytest.mark.image

SFDISK = """label: gpt
label-id: 11111111-2222-3333-4444-555555555555
size=33MiB, type=c12a7328-f81f-11d2-ba4b-00a0c93ec93b, name=esp, uuid=11111111-2222-3333-4444-000000000001
size=1MiB, type=21686148-6449-6e6f-744e-656564454649, name=bios, uuid=11111111-2222-3333-4444-000000000002
size=2MiB, type=4f68bce3-e8cd-4db1-96e7-fbcaf984b709, name=root-a, uuid=11111111-2222-3333-4444-000000000003
"""


def make(
    folder: Path,
    change: Callable[[Path, Path], object] = lambda root, esp: None,
    programs: Sequence[str] = ("BOOT", "Linux"),
) -> Path:
    """A disk of the appliance's kind, with a root of three files.

    :param programs: folders of the EFI system partition, in the order of its entries.
    """
    root, esp, disk = folder / "root", folder / "esp", folder / "disk.raw"
    (root / "etc").mkdir(parents=True)
    (root / "usr/bin").mkdir(parents=True)
    esp.mkdir()
    (root / "etc/hostname").write_text("hub\n")
    (root / "usr/bin/tool").write_text("#!/bin/sh\n")
    (root / "usr/bin/tool").chmod(0o755)
    (root / "usr/bin/other").symlink_to("tool")
    (esp / "loader.conf").write_text("timeout 0\n")
    change(root, esp)
    for path in [root, *root.rglob("*"), *esp.rglob("*")]:
        os.utime(path, (1_700_000_000, 1_700_000_000), follow_symlinks=False)
    run(["mkfs.erofs", "-zlz4hc", "-T1700000000", "-U11111111-2222-3333-4444-555555555555", folder / "root.img", root])
    with (folder / "esp.img").open("wb") as file:
        file.truncate(33 * MIB)
    run(["mkfs.vfat", "--invariant", "-F", "32", "-i", "12345678", folder / "esp.img"])
    fill = {"TZ": "UTC", "SOURCE_DATE_EPOCH": "1700000000"}
    run(["mcopy", "-m", "-i", folder / "esp.img", esp / "loader.conf", "::/"], env=fill)
    for name in programs:
        run(["mmd", "-i", folder / "esp.img", f"::/{name}"], env=fill)
    with disk.open("wb") as file:
        file.truncate(40 * MIB)
    run(["sfdisk", "--quiet", disk], stdin=SFDISK)
    rows = json.loads(run(["sfdisk", "--json", disk]).stdout)["partitiontable"]["partitions"]
    with disk.open("r+b") as file:
        for row, image in ((rows[0], "esp.img"), (rows[2], "root.img")):
            file.seek(row["start"] * 512)
            file.write((folder / image).read_bytes())
    return disk


def qcow2(disk: Path) -> Path:
    target = disk.with_suffix(".qcow2")
    run(["qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", disk, target])
    return target


def changed(root: Path, esp: Path) -> None:
    (root / "etc/hostname").write_text("another\n")
    (root / "etc/new").write_text("x")
    (root / "usr/bin/tool").chmod(0o4755)
    (root / "usr/bin/other").unlink()
    (esp / "loader.conf").write_text("timeout 5\n")
    if os.geteuid() == 0:
        os.chown(root / "etc", 7, 8)


@pytest.mark.parametrize("form", ["raw", "qcow2", "erofs"])
def test_files_owners_modes_and_sizes_are_named(form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    disks = [make(tmp_path / "a"), make(tmp_path / "b", changed)]
    if form == "qcow2":
        disks = [qcow2(disk) for disk in disks]
    elif form == "erofs":
        disks = [disk.parent / "root.img" for disk in disks]
    assert main(["diff", "--largest", "0", *map(str, disks)]) == 1
    told = set(capsys.readouterr().out.splitlines()) - {""}
    root = {
        "~ entry /etc/hostname: sha256 63fff204cc7d -> 33a7b215065f, size 4 -> 8",
        "+ entry /etc/new 0644",
        "- entry /usr/bin/other 0777",
        "~ entry /usr/bin/tool: mode 0755 -> 4755",
        *(["~ entry /etc: owner 0:0 -> 7:8"] if os.geteuid() == 0 else []),
    }
    esp = {"~ esp /loader.conf: sha256 d5806e534255 -> 842fde287446"} if form != "erofs" else set()
    assert {line for line in told if "MB in all" not in line} == root | esp


def test_the_same_disk_in_another_form_is_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    disk = make(tmp_path)
    assert main(["diff", str(disk), str(qcow2(disk))]) == 0
    assert capsys.readouterr().out == ""


def test_what_lies_outside_of_files_is_compared_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    disk = make(tmp_path)
    other = tmp_path / "other.raw"
    other.write_bytes(disk.read_bytes())
    with other.open("r+b") as file:
        file.write(b"boot code")
        file.seek((1 + 33) * MIB)
        file.write(b"GRUB")
    assert main(["diff", str(disk), str(other)]) == 1
    assert [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()] == [
        "~ boot sector",
        "~ partition bios",
    ]


def test_the_order_of_a_folder_in_the_esp_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    disks = make(tmp_path / "a"), make(tmp_path / "b", programs=("Linux", "BOOT"))
    assert main(["diff", *map(str, disks)]) == 1
    told = '~ esp /: entries ["loader.conf", "BOOT", "Linux"] -> ["loader.conf", "Linux", "BOOT"]\n'
    assert capsys.readouterr().out == told


def test_what_no_entry_of_the_esp_explains_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    disk, other = make(tmp_path), tmp_path / "other.raw"
    other.write_bytes(disk.read_bytes())
    with other.open("r+b") as file:
        file.seek(1 * MIB + 67)  # the volume ID of FAT32
        file.write(b"ID")
    assert main(["diff", str(disk), str(other)]) == 1
    assert capsys.readouterr().out.startswith("~ esp: sha256 ")


def test_the_file_in_the_esp_is_named_for_built_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = []
    for name, change in (("a", lambda root, esp: None), ("b", lambda root, esp: (esp / "loader.conf").write_text("x"))):
        (tmp_path / name / "out").mkdir(parents=True)
        image = qcow2(make(tmp_path / name, change)).rename(tmp_path / name / "out" / "master.qcow2")
        (image.parent / "SHA256SUMS").write_text(f"{files.sha256(image)}  master.qcow2\n")
        folders.append(str(image.parent))
    assert main(["diff", "--largest", "0", *folders]) == 1
    told = [line.partition(":")[0] for line in capsys.readouterr().out.splitlines() if line.startswith("~")]
    assert told == ["~ esp /loader.conf", "~ output master.qcow2"]


@pytest.mark.one_is_enough
def test_the_built_image_is_read_as_its_entries_say(output: Output) -> None:
    """Every owner, mode, size and checksum of the disk's root, read back from the qcow2."""
    found, manifest = contents.read(output.qcow2)
    assert manifest == output.json("manifest.json")
    wrong = []
    for path, entry in output.json("entries.json").items():
        real = found.get(f"entry /{path}", {})
        keys = {"owner"} if entry["type"] == "hard" else entry.keys() - ({"mode"} if entry["type"] == "link" else set())
        wrong += [f"{path}: {key} is {real.get(key)}: {entry}" for key in sorted(keys) if entry[key] != real.get(key)]
    assert not wrong[:20]
    assert len([thing for thing in found if thing.startswith("entry ")]) == len(output.json("entries.json"))
    assert found["partition root-a"]["uuid"].replace("-", "") == output.roothash[:32]
