"""A built image, taken apart without booting it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from image_parts import ROOT, Output, Partition, cut

from hubsmith.run import run


@pytest.fixture(scope="session")
def output(request: pytest.FixtureRequest) -> Output:
    """A built image."""
    found = Output(ROOT / "out" / request.param)
    if not (found.folder / "SHA256SUMS").is_file():
        name = found.name
        pytest.fail(f"no built image in {found.folder}: hubsmith fetch {name} && hubsmith build {name}", pytrace=False)
    return found


@pytest.fixture(scope="session")
def scratch(output: Output) -> Iterator[Path]:
    """A folder for one image on the disk of the tree (4 GB are needed, too much for a /tmp in memory)."""
    with TemporaryDirectory(prefix=".image-test-", dir=ROOT / "out") as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def disk(output: Output, scratch: Path) -> Path:
    """The image as a raw disk."""
    raw = scratch / "disk.raw"
    run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", output.qcow2, raw], timeout=300)
    return raw


@pytest.fixture(scope="session")
def table(disk: Path) -> dict[str, Any]:
    """The GPT, as sfdisk reads it; it refuses one whose checksum is wrong."""
    found: dict[str, Any] = json.loads(run(["sfdisk", "--json", disk]).stdout)["partitiontable"]
    return found


@pytest.fixture(scope="session")
def partitions(table: dict[str, Any]) -> dict[str, Partition]:
    """The partitions by label."""
    size = table["sectorsize"]
    return {
        row["name"]: Partition(row["start"] * size, row["size"] * size, row["type"].lower(), row["uuid"].lower())
        for row in table["partitions"]
    }


@pytest.fixture(scope="session")
def erofs(disk: Path, partitions: dict[str, Partition], scratch: Path) -> Path:
    """The root's partition."""
    return cut(disk, partitions["root-a"], scratch / "root.img")


@pytest.fixture(scope="session")
def verity(disk: Path, partitions: dict[str, Partition], scratch: Path) -> Path:
    """The partition of the root's hashes."""
    return cut(disk, partitions["root-a-verity"], scratch / "verity.img")


@pytest.fixture(scope="session")
def esp(disk: Path, partitions: dict[str, Partition], scratch: Path) -> Path:
    """The EFI system partition, unpacked."""
    image = cut(disk, partitions["esp"], scratch / "esp.img")
    run(["fsck.vfat", "-n", image])
    folder = scratch / "esp"
    folder.mkdir()
    run(["mcopy", "-s", "-n", "-i", image, "::/", folder])
    return folder


@pytest.fixture(scope="session")
def tree(erofs: Path, scratch: Path) -> Iterator[Path]:
    """The root, unpacked: contents and modes as they are, all owned by whoever runs the tests."""
    folder = scratch / "tree"
    run(["fsck.erofs", f"--extract={folder}", "--no-preserve-owner", "--preserve-perms", erofs], timeout=600)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def entries(output: Output) -> dict[str, dict[str, Any]]:
    """What the build says of every path of the root; `test_entries_are_those_of_the_root` proves it."""
    found: dict[str, dict[str, Any]] = output.json("entries.json")
    return found
