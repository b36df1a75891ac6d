"""The container images that a machine brings: what lies in its root, and what its engine is told of it."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from hubsmith.build import oci
from hubsmith.build.stages.base import CONTAINERS, containers
from hubsmith_docker import images

EPOCH = 1_700_000_000
CONTAINER = {"user": "1000:100", "workdir": "/home/jovyan", "command": ["run"], "env": {}}


def layer(path: Path, **contents: bytes) -> Path:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        root = tarfile.TarInfo(".")
        root.type, root.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(root)
        for name, content in contents.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size, member.uid, member.gid = len(content), 1000, 100
            tar.addfile(member, io.BytesIO(content))
        if contents:
            member = tarfile.TarInfo("./again")
            member.type, member.linkname = tarfile.LNKTYPE, f"./{next(iter(contents))}"
            tar.addfile(member)
    return path


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    layers = [
        ("low", layer(tmp_path / "low.tar", a=b"12345", Főtanúsítvány=b"")),
        ("high", layer(tmp_path / "high.tar", b=b"123")),
    ]
    oci.write(tmp_path / "x.oci.tar", "hubsmith/x", layers, CONTAINER, EPOCH)
    return tmp_path / "x.oci.tar"


@pytest.fixture
def root(archive: Path, tmp_path: Path) -> Path:
    """A root with what the archive holds."""
    tar = containers([{"name": "x", "archive": str(archive)}], EPOCH, tmp_path / "containers.tar")
    with tarfile.open(tar) as source:
        owners = {member.name: (member.uid, member.gid) for member in source if member.isreg()}
        source.extractall(tmp_path / "root", filter=lambda member, path: member.replace(uid=None, gid=None))
    assert owners[f"./{CONTAINERS}/x/0/a"] == (1000, 100)
    return tmp_path / "root"


@pytest.fixture
def engine(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The engine's folder, for the program with its paths below the test's folder."""
    monkeypatch.setattr(images, "BROUGHT", root / CONTAINERS)
    monkeypatch.setattr(images, "ENGINE", tmp_path / "docker")
    return images.ENGINE


def test_layers_lie_unpacked_in_the_root(root: Path, archive: Path) -> None:
    brought = root / CONTAINERS / "x"
    assert (brought / "0/a").read_bytes() == b"12345"
    assert (brought / "0/Főtanúsítvány").exists()
    assert (brought / "0/again").samefile(brought / "0/a")
    assert (brought / "1/b").read_bytes() == b"123"
    with tarfile.open(archive) as source:
        saved = json.load(source.extractfile("manifest.json") or pytest.fail())[0]
        config = (source.extractfile(saved["Config"]) or pytest.fail()).read()
    assert (brought / "config.json").read_bytes() == config
    diffs = [
        f"sha256:{hashlib.sha256((archive.parent / f'{one}.tar').read_bytes()).hexdigest()}" for one in ("low", "high")
    ]
    layers = [{"diff": diffs[0], "size": 5}, {"diff": diffs[1], "size": 3}]
    assert json.loads((brought / "layers.json").read_text()) == layers


def test_a_layer_that_takes_something_away_is_refused(tmp_path: Path) -> None:
    oci.write(
        tmp_path / "x.oci.tar", "x", [("one", layer(tmp_path / "one.tar", **{".wh.gone": b""}))], CONTAINER, EPOCH
    )
    with pytest.raises(ValueError, match=r"takes away /\.wh\.gone"):
        containers([{"name": "x", "archive": str(tmp_path / "x.oci.tar")}], EPOCH, tmp_path / "containers.tar")


def test_the_engine_is_told_of_each_layer_and_of_the_name(engine: Path, root: Path) -> None:
    images.main()
    brought = root / CONTAINERS / "x"
    config = (brought / "config.json").read_bytes()
    number = hashlib.sha256(config).hexdigest()
    assert (engine / "image/overlay2/imagedb/content/sha256" / number).read_bytes() == config
    names = json.loads((engine / "image/overlay2/repositories.json").read_text())["Repositories"]
    assert names == {"localhost:1/x": {"localhost:1/x:bundled": f"sha256:{number}"}}
    low, high = json.loads(config)["rootfs"]["diff_ids"]
    chain = hashlib.sha256(f"{low} {high}".encode()).hexdigest()
    known = engine / "image/overlay2/layerdb/sha256"
    assert sorted(one.name for one in known.iterdir()) == sorted([low.removeprefix("sha256:"), chain])
    assert ((known / chain / "parent").read_text(), (known / chain / "diff").read_text()) == (low, high)
    stored = engine / "overlay2" / (known / chain / "cache-id").read_text()
    assert (stored / "diff").resolve() == brought / "1"
    assert (engine / "overlay2/l" / (stored / "link").read_text()).resolve() == brought / "1"
    below = (stored / "lower").read_text()
    assert (engine / "overlay2" / below).resolve() == brought / "0"


def test_again_and_with_another_version(engine: Path, root: Path) -> None:
    images.main()
    names = engine / "image/overlay2/repositories.json"
    content = json.loads(names.read_text())
    content["Repositories"]["other"] = {"other:1": "sha256:0"}
    names.write_text(json.dumps(content))
    images.main()
    assert json.loads(names.read_text()) == content
    config = root / CONTAINERS / "x/config.json"
    config.write_text(config.read_text() + " ")
    images.main()
    said = json.loads(names.read_text())["Repositories"]
    assert said["localhost:1/x"]["localhost:1/x:bundled"] == f"sha256:{hashlib.sha256(config.read_bytes()).hexdigest()}"
    assert said["other"] == {"other:1": "sha256:0"}
