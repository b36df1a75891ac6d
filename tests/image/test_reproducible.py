"""Each stage, built a second time by Nix in another moment, gives the same bytes; and what a change rebuilds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from image_parts import ROOT, Output

from hubsmith.build.nix import expression, nix_environment
from hubsmith.inspect.diff import diff, read
from hubsmith.lock import committed_path, inputs_of, load, save
from hubsmith.plan import dumps
from hubsmith.plan.images import manifest_of
from hubsmith.run import CommandFailed, run

pytestmark = pytest.mark.image


def nix_build(output: Output, attribute: str, *more: str) -> list[Path]:
    """Build with the locks that the image was built with."""
    refreshed = output.json("manifest.json")["lock"]["refreshed"]
    with expression(ROOT, output.name, refreshed=refreshed) as arguments:
        command = ["nix-build", *arguments, "--attr", attribute, "--no-out-link", *more]
        return [Path(line) for line in run(command, env=nix_environment(), timeout=1800).stdout.split()]


def rebuild(output: Output, attribute: str) -> None:
    """Build it again and compare with what is in the store; say which files differ."""
    outputs = nix_build(output, attribute)
    try:
        nix_build(output, attribute, "--check", "--keep-failed")
        return
    except CommandFailed as error:
        why = str(error)
    # What is kept of a failure is the second output, beside the first.
    told = [
        f"{first.name[33:]}: {change.text()}"
        for first in outputs
        if (second := first.with_name(f"{first.name}.check")).exists()
        for change in diff(read(first), read(second))
    ]
    pytest.fail("\n".join([f"built twice, {attribute} differs:", *told[:40]]) if told else why, pytrace=False)


@pytest.mark.one_is_enough
@pytest.mark.parametrize("stage", ["envs", "manifest", "base", "initrd", "root", "disk", "image"])
def test_stage_is_reproducible(output: Output, stage: str) -> None:
    """The environments, what a change of a template rebuilds, and what is between that and the packages."""
    rebuild(output, f"stages.{output.name}.{stage}")


@pytest.mark.one_is_enough
@pytest.mark.slow
def test_package_layer_is_reproducible(output: Output) -> None:
    """The layer that takes longest."""
    rebuild(output, f"stages.{output.name}.packages")


@pytest.mark.one_is_enough
def test_the_raw_disk_is_the_released_one(output: Output) -> None:
    """The stage `disk`, which is not on the way to the image, makes the very disk of the qcow2."""
    (folder,) = nix_build(output, f"stages.{output.name}.disk")
    run(["qemu-img", "compare", "-f", "raw", "-F", "qcow2", folder / "disk.raw", output.qcow2], timeout=600)
    assert (folder / "roothash").read_text().strip() == output.roothash


STAGES = ("packages", "base", "initrd", "manifest", "root", "image")


def derivations(folder: Path) -> dict[str, str]:
    """The derivation of each stage of a tree."""
    names = [word for stage in STAGES for word in ("--attr", f"stages.master.{stage}")]
    lines = run(["nix-instantiate", folder / "nix/default.nix", *names], env=nix_environment()).stdout.split()
    return dict(zip(STAGES, lines, strict=True))


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """This tree in another folder, with what is not committed yet."""
    folder = tmp_path / "clone"
    run(["git", "clone", "--quiet", ROOT, folder])
    for name in ("nix", "images", "modules", "src"):
        run(["rm", "-rf", folder / name])
        run(["cp", "-a", ROOT / name, folder / name])
    return folder


def test_the_folder_does_not_matter(clone: Path) -> None:
    assert derivations(clone) == derivations(ROOT)


def test_the_flake_gives_the_same(clone: Path) -> None:
    """`nix build .#master`; a flake sees what git knows."""
    run(["git", "add", "--all"], cwd=clone)
    told = run(
        ["nix", "path-info", "--derivation", "--json", f"{clone}#master"], env=nix_environment(), timeout=300
    ).stdout
    assert [one["path"] for one in json.loads(told)] == [derivations(clone)["image"]]


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)


@pytest.mark.parametrize(
    ("file", "text", "rebuilt"),
    [
        ("modules/nginx/templates/hub.conf.j2", "# changed\n", {"manifest", "root", "image"}),
        ("src/hubsmith/guest/main.py", "# changed\n", {"manifest", "root", "image"}),
        ("src/hubsmith/settings/schema.py", "# changed\n", {"manifest", "root", "image"}),
        ("modules/boot/dracut/dracut.conf", "# changed\n", {"manifest", "initrd", "root", "image"}),
        ("src/hubsmith/build/rules.py", "# changed\n", {"manifest", "base", "root", "image"}),
        ("src/hubsmith/build/stages/packages.py", "# changed\n", set(STAGES)),
        ("src/hubsmith/vm/machine.py", "# changed\n", set()),
        ("src/hubsmith/build/nix.py", "# changed\n", set()),
        ("src/hubsmith/inspect/diff.py", "# changed\n", set()),
        ("src/hubsmith/lock/npm.py", "# changed\n", set()),
    ],
)
def test_a_change_rebuilds_no_more_than_it_must(file: str, text: str, rebuilt: set[str], clone: Path) -> None:
    before = derivations(clone)
    append(clone / file, text)
    after = derivations(clone)
    assert {stage for stage in STAGES if before[stage] != after[stage]} == rebuilt


def extending(clone: Path, name: str, base: str) -> None:
    """An image that extends another one and adds nothing, with a lock of the same packages."""
    text = f'[image]\nname = "{name}"\nsummary = "An extending image"\nextends = "{base}"\n'
    (clone / "images" / f"{name}.toml").write_text(text)
    inputs = inputs_of(clone, name)
    like = {"image": name, "inputs_sha256": inputs.sha256, "inherited": inputs.inherited}
    save(load(committed_path(clone, base)).model_copy(update=like), committed_path(clone, name))


def test_nix_makes_of_an_extending_image_what_the_plan_says(clone: Path) -> None:
    """Its containers and its kind are inherited, and the sandbox sees all definitions that it is planned from."""
    extending(clone, "more", "swarm-worker")
    extending(clone, "box", "notebook")
    graph = clone / "nix/default.nix"
    attributes = ["--attr", "stages.more.manifest", "--attr", "stages.box.manifest"]
    built = run(["nix-build", graph, *attributes, "--no-out-link"], env=nix_environment(), timeout=600).stdout.split()
    for name, path in zip(("more", "box"), built, strict=True):
        assert Path(path).read_text() == dumps(manifest_of(clone, name))
    assert "notebook" in manifest_of(clone, "more")["containers"]
    kinds = f"builtins.mapAttrs (_: builtins.attrNames) {{ inherit ((import {graph} {{ }}).stages) more box; }}"
    told = run(["nix-instantiate", "--eval", "--strict", "--json", "--expr", kinds], env=nix_environment()).stdout
    assert {name: "disk" in stages for name, stages in json.loads(told).items()} == {"more": True, "box": False}
