"""The notebook container: a valid archive, clean, and what engines are told of it."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterator
from typing import Any

import pytest
from image_parts import Output

pytestmark = [pytest.mark.image, pytest.mark.container]


def opened(output: Output) -> tarfile.TarFile:
    return tarfile.open(output.folder / f"{output.name}.oci.tar")


@pytest.fixture(scope="module")
def archive(output: Output) -> Iterator[tarfile.TarFile]:
    """The archive."""
    with opened(output) as tar:
        yield tar


def blob(archive: tarfile.TarFile, descriptor: dict[str, Any]) -> bytes:
    """What a descriptor names; its size and digest are right."""
    stream = archive.extractfile(f"blobs/{descriptor['digest'].replace(':', '/')}")
    assert stream is not None
    content = stream.read()
    assert (len(content), f"sha256:{hashlib.sha256(content).hexdigest()}") == (descriptor["size"], descriptor["digest"])
    return content


def test_it_is_an_oci_layout_of_one_image(archive: tarfile.TarFile, output: Output) -> None:
    names = [member.name for member in archive]
    assert names == sorted(names, key=lambda name: (name not in ("blobs", "blobs/sha256"), name))
    index = json.loads(archive.extractfile("index.json").read())  # type: ignore[union-attr]
    (described,) = index["manifests"]
    manifest = json.loads(blob(archive, described))
    config = json.loads(blob(archive, manifest["config"]))
    assert (output.folder / "digest").read_text().strip() == described["digest"]
    assert config["config"]["User"] == "1000:100"
    assert config["rootfs"]["diff_ids"] == [layer["digest"] for layer in manifest["layers"]]
    for layer in manifest["layers"]:
        stream = archive.extractfile(f"blobs/{layer['digest'].replace(':', '/')}")
        assert stream is not None
        assert f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}" == layer["digest"]  # type: ignore[arg-type]
    # Nothing but that, and the list that `docker load` reads.
    wanted = {described["digest"], manifest["config"]["digest"], *config["rootfs"]["diff_ids"]}
    blobs = {f"blobs/{digest.replace(':', '/')}" for digest in wanted}
    assert set(names) == blobs | {"blobs", "blobs/sha256", "oci-layout", "index.json", "manifest.json"}


def test_nothing_in_it_gives_rights_or_is_younger_than_its_definition(archive: tarfile.TarFile, output: Output) -> None:
    (saved,) = json.loads(archive.extractfile("manifest.json").read())  # type: ignore[union-attr]
    found: dict[str, tarfile.TarInfo] = {}
    for layer in saved["Layers"]:
        with tarfile.open(fileobj=archive.extractfile(layer), mode="r|") as tar:
            found |= {member.name: member for member in tar}
    assert "./opt/notebook/bin/jupyterhub-singleuser" in found
    assert [name for name, member in found.items() if member.isfile() and member.mode & 0o6000] == []
    open_to_all = {name for name, member in found.items() if member.mode & 0o002 and not member.issym()}
    assert open_to_all == {"./tmp", "./var/tmp"}
    assert max(member.mtime for member in found.values()) <= output.json("manifest.json")["source_date_epoch"]


def test_its_user_has_a_home_and_no_password(output: Output) -> None:
    entries = output.json("entries.json")
    assert "etc/shadow" in entries
    with opened(output) as archive:
        (saved,) = json.loads(archive.extractfile("manifest.json").read())  # type: ignore[union-attr]
        with tarfile.open(fileobj=archive.extractfile(saved["Layers"][-1])) as tar:
            texts = {
                name: tar.extractfile(f"./etc/{name}").read().decode()  # type: ignore[union-attr]
                for name in ("passwd", "shadow")
            }
    assert "jovyan:x:1000:100:Notebook user:/home/jovyan:/bin/bash" in texts["passwd"].splitlines()
    assert all(line.split(":")[1] in ("*", "!", "!*") for line in texts["shadow"].splitlines())
