"""An image's checksum and its derivations depend on what is in the image, and on nothing else."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from hubsmith import code
from hubsmith.build.nix import nix_environment
from hubsmith.definition import define, image_names
from hubsmith.paths import project_root
from hubsmith.plan import dumps
from hubsmith.plan.images import manifest_of
from hubsmith.run import run

HERE = project_root(Path(__file__))
IMAGES = image_names(HERE)
DEFINED = {name: define(HERE, name) for name in IMAGES}
MACHINES = {name for name, one in DEFINED.items() if one.image.container is None}
#: What an image or its plan is read from.
PARTS = ("images", "modules", "nix", "src/hubsmith")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree, to be changed."""
    root = tmp_path_factory.mktemp("tree")
    for part in PARTS:
        shutil.copytree(HERE / part, root / part, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    return root


def tracked(*folders: str) -> list[str]:
    """The files that git knows, and those that it would add."""
    argv = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *folders]
    names = subprocess.run(argv, cwd=HERE, capture_output=True, text=True, check=True).stdout.splitlines()
    return sorted(name for name in names if (HERE / name).is_symlink() or (HERE / name).is_file())


@contextmanager
def changed(file: Path) -> Iterator[None]:
    """A file of the copy with one more line, or a link to elsewhere, until the end of the block."""
    if file.is_symlink():
        target = file.readlink()
        file.unlink()
        file.symlink_to(f"{target}-changed")
        yield
        file.unlink()
        file.symlink_to(target)
    else:
        content = file.read_bytes()
        file.write_bytes(content + b"\n")
        yield
        file.write_bytes(content)


def manifests(root: Path, images: Iterable[str] = IMAGES) -> dict[str, str]:
    return {image: dumps(manifest_of(root, image)) for image in images}


def different(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {name for name in after if before[name] != after[name]}


def with_containers(images: Iterable[str]) -> frozenset[str]:
    """Images, and the machines that bring one of them."""
    found = set(images)
    return frozenset(found | {name for name, one in DEFINED.items() if found & set(one.image.image.containers)})


def images_with(module: str, file: str) -> frozenset[str]:
    """The images that hold a file of a module: machines with the module; containers, if it is one of its `files/`."""
    if file in ("check.py", "README.md"):
        return frozenset()
    return with_containers(
        name
        for name, one in DEFINED.items()
        if module in one.modules and (one.image.container is None or file.startswith("files/"))
    )


def wrong(tree: Path, expected: dict[str, frozenset[str]]) -> dict[str, list[str]]:
    """The files of which a change does not touch exactly the expected images.

    Files with the same images are changed together, which shows whether any of them touches another one; then each
    alone, which shows whether it touches its own.
    """
    before, found = manifests(tree), {}
    for images in {*expected.values()}:
        group = [name for name in expected if expected[name] == images]
        with ExitStack() as stack:
            for name in group:
                stack.enter_context(changed(tree / name))
            touched = different(before, manifests(tree))
        if touched != images:
            found[", ".join(group)] = sorted(touched)
        for name in group if images else ():
            with changed(tree / name):
                touched = different(before, manifests(tree, images))
            if touched != images:
                found[name] = sorted(touched)
    return found


def test_a_file_of_a_module_touches_the_images_that_hold_it(tree: Path) -> None:
    """Every file of every module."""
    expected = {name: images_with(*name.split("/", 2)[1:]) for name in tracked("modules")}
    assert len(expected) > 100
    assert not wrong(tree, expected)


def test_code_touches_the_images_that_it_makes_or_is_in(tree: Path) -> None:
    """Every file of the Python package: what runs in a machine, what a stage imports, and what neither does."""
    source = tree / "src"
    guest = set(code.guest_files(source))
    of_stages = {
        name: {file for stage in stages_of(tree, name) for file in code.closure(source, [code.stage_file(stage)])}
        for name in IMAGES
    }
    expected = {}
    for name in tracked("src/hubsmith"):
        file = name.removeprefix("src/")
        makes = {image for image in IMAGES if file in of_stages[image]}
        expected[name] = with_containers(makes | (MACHINES if file in guest else set()))
        if file.split("/")[1] in ("cli", "vm", "deploy", "testing", "inspect", "fetch", "catalog", "release", "plan"):
            assert not expected[name], name
    assert not wrong(tree, expected)


def stages_of(root: Path, image: str) -> list[str]:
    return [name for name in manifest_of(root, image)["code"] if name not in ("guest", "nix")]


# --- the build graph


def derivations(root: Path) -> dict[str, str]:
    """The derivation of each image."""
    argv = ["nix-instantiate", root / "nix/default.nix", *(word for name in IMAGES for word in ("--attr", name))]
    return dict(zip(IMAGES, run(argv, env=nix_environment()).stdout.split(), strict=True))


def test_the_graph_finds_the_same_code_as_the_plan(tree: Path) -> None:
    stages = [path.stem for path in (HERE / "src/hubsmith/build/stages").glob("[!_]*.py")]
    closures = " ".join(f'{stage} = code.closure [ (code.stageFile "{stage}") ];' for stage in stages)
    guest = 'code.closure (code.below "hubsmith/guest" ++ code.below "hubsmith/settings")'
    text = f"let code = import {tree}/nix/code.nix {tree}/src; in {{ {closures} guest = {guest}; }}"
    found = json.loads(run(["nix-instantiate", "--eval", "--strict", "--json", "--expr", text]).stdout)
    expected = {stage: code.closure(tree / "src", [code.stage_file(stage)]) for stage in stages}
    assert {name: sorted(paths) for name, paths in found.items()} == {
        **expected,
        "guest": code.guest_files(tree / "src"),
    }
    assert "hubsmith/definition/models.py" in expected["manifest"] and expected["npm_env"] == [
        code.stage_file("npm_env")
    ]


def scripts(derivation: str) -> Iterator[str]:
    """The stages that an image is built by, without those of the container images in it."""
    told = json.loads(run(["nix", "show-derivation", "--recursive", derivation], env=nix_environment()).stdout)
    image = told[derivation]["env"]["name"].rpartition("-")[0]
    for one in told.values():
        if "script" in one["env"] and one["env"]["name"].startswith(f"{image}-"):
            yield Path(one["env"]["script"]).stem.partition("-")[2]


def test_the_plan_knows_the_stages_of_the_graph(tree: Path) -> None:
    for image, derivation in derivations(tree).items():
        assert {*scripts(derivation)} == {"manifest", *stages_of(tree, image)}, image


@pytest.mark.parametrize(
    "name",
    [
        "modules/nginx/templates/hub.conf.j2",
        "modules/nginx/check.py",
        "modules/swarm-worker/module.toml",
        "modules/hardening/files/etc/nftables.conf",
        "modules/notebook-container/files/etc/profile.d/hubsmith-notebook-container.sh",
        "modules/boot/dracut/dracut.conf",
    ],
)
def test_a_file_rebuilds_the_images_that_hold_it(name: str, tree: Path) -> None:
    before = derivations(tree)
    _, module, file = name.split("/", 2)
    with changed(tree / name):
        assert different(before, derivations(tree)) == images_with(module, file)


@pytest.mark.parametrize(
    ("name", "rebuilt"),
    [
        ("src/hubsmith/guest/main.py", MACHINES),
        ("src/hubsmith/build/stages/container.py", with_containers({*IMAGES} - MACHINES)),
        ("src/hubsmith/disk/esp.py", MACHINES),
        ("src/hubsmith/vm/machine.py", set()),
        ("src/hubsmith/cli/build.py", set()),
        ("src/hubsmith/inspect/diff.py", set()),
        ("src/hubsmith/build/nix.py", set()),
    ],
)
def test_code_rebuilds_the_images_that_it_makes(name: str, rebuilt: set[str], tree: Path) -> None:
    before = derivations(tree)
    with changed(tree / name):
        assert different(before, derivations(tree)) == rebuilt
