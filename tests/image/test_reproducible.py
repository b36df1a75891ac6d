"""Each stage, built again in other surroundings, gives the bytes that Nix has made; and what a change rebuilds."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from image_parts import ROOT, Output
from variations import APART, SHUFFLE, STAGES, TOGETHER, Variation, build, derivations

from hubsmith.build.nix import expression, nix_environment
from hubsmith.inspect.diff import compare
from hubsmith.lock import committed_path, inputs_of, load, save
from hubsmith.plan import dumps
from hubsmith.plan.images import manifest_of
from hubsmith.run import run

pytestmark = pytest.mark.image


def refreshed(output: Output) -> bool:
    """Whether the image was built with refreshed locks."""
    return bool(output.json("manifest.json")["lock"]["refreshed"])


def nix_build(output: Output, attribute: str) -> list[Path]:
    """Build with the locks that the image was built with."""
    with expression(ROOT, output.name, refreshed=refreshed(output)) as arguments:
        command = ["nix-build", *arguments, "--attr", attribute, "--no-out-link"]
        return [Path(line) for line in run(command, env=nix_environment(), timeout=1800).stdout.split()]


def same(output: Output, stage: str, variation: Variation, tmp_path: Path) -> None:
    """Build a stage again in other surroundings and compare it with what Nix has made; say which files differ."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount file systems and change its user")
    told = []
    for derivation in derivations(ROOT, output.name, [stage], refreshed=refreshed(output)):
        kept = tmp_path / derivation.name
        if build(derivation, variation, kept) != derivation.expected:
            changes = compare(derivation.out, kept) if kept.exists() else []
            told += [f"{derivation.name} differs ({variation.name})", *(change.text() for change in changes[:40])]
    if told:
        pytest.fail("\n".join(told), pytrace=False)


#: The two that take longest.
LONG = ("tools", "packages")


@pytest.mark.one_is_enough
@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage not in LONG])
def test_surroundings_do_not_matter(output: Output, stage: str, tmp_path: Path) -> None:
    """The order of folders, umask, locale, time zone, clock and processors, all at once."""
    same(output, stage, TOGETHER, tmp_path)


@pytest.mark.first_only
@pytest.mark.slow
@pytest.mark.parametrize("stage", LONG)
def test_surroundings_do_not_matter_for_packages(output: Output, stage: str, tmp_path: Path) -> None:
    """The same for the two stages that take longest."""
    same(output, stage, TOGETHER, tmp_path)


@pytest.mark.first_only
@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("variation", APART, ids=lambda variation: variation.name)
def test_file_system_and_user_do_not_matter(output: Output, stage: str, variation: Variation, tmp_path: Path) -> None:
    """What cannot be varied together with the rest."""
    same(output, stage, variation, tmp_path)


def test_folders_are_listed_in_another_order(tmp_path: Path) -> None:
    """disorderfs does what the variations count on, at each look."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount file systems")
    (tmp_path / "folder").mkdir()
    (tmp_path / "mounted").mkdir()
    for number in range(20):
        (tmp_path / "folder" / str(number)).touch()
    look = f"ls -U {tmp_path}/mounted | tr '\\n' ' '; echo"
    script = f"{SHUFFLE} {tmp_path}/folder {tmp_path}/mounted; {look}; {look}; {look}"
    listings = run(["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-euc", script]).stdout.splitlines()
    assert len({*listings}) == 3
    assert {" ".join(sorted(line.split())) for line in listings} == {" ".join(sorted(map(str, range(20))))}


@pytest.mark.one_is_enough
def test_the_raw_disk_is_the_released_one(output: Output) -> None:
    """The stage `disk`, which is not on the way to the image, makes the very disk of the qcow2."""
    (folder,) = nix_build(output, f"stages.{output.name}.disk")
    run(["qemu-img", "compare", "-f", "raw", "-F", "qcow2", folder / "disk.raw", output.qcow2], timeout=600)
    assert (folder / "roothash").read_text().strip() == output.roothash


REBUILT = ("packages", "base", "initrd", "manifest", "root", "image")


def graph(folder: Path) -> dict[str, str]:
    """The derivation of each stage of a tree."""
    names = [word for stage in REBUILT for word in ("--attr", f"stages.master.{stage}")]
    lines = run(["nix-instantiate", folder / "nix/default.nix", *names], env=nix_environment()).stdout.split()
    return dict(zip(REBUILT, lines, strict=True))


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
    assert graph(clone) == graph(ROOT)


def test_the_flake_gives_the_same(clone: Path) -> None:
    """`nix build .#master`; a flake sees what git knows."""
    run(["git", "add", "--all"], cwd=clone)
    told = run(
        ["nix", "path-info", "--derivation", "--json", f"{clone}#master"], env=nix_environment(), timeout=300
    ).stdout
    assert [one["path"] for one in json.loads(told)] == [graph(clone)["image"]]


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
        ("src/hubsmith/build/stages/packages.py", "# changed\n", set(REBUILT)),
        ("src/hubsmith/vm/machine.py", "# changed\n", set()),
        ("src/hubsmith/build/nix.py", "# changed\n", set()),
        ("modules/nginx/check.py", "# changed\n", set()),
        ("modules/swarm-worker/module.toml", "# changed\n", set()),
        ("src/hubsmith/disk/esp.py", "# changed\n", {"manifest", "root", "image"}),
        ("src/hubsmith/inspect/diff.py", "# changed\n", set()),
        ("src/hubsmith/lock/npm.py", "# changed\n", set()),
    ],
)
def test_a_change_rebuilds_no_more_than_it_must(file: str, text: str, rebuilt: set[str], clone: Path) -> None:
    before = graph(clone)
    append(clone / file, text)
    after = graph(clone)
    assert {stage for stage in REBUILT if before[stage] != after[stage]} == rebuilt


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
    root = clone / "nix/default.nix"
    attributes = ["--attr", "stages.more.manifest", "--attr", "stages.box.manifest"]
    built = run(["nix-build", root, *attributes, "--no-out-link"], env=nix_environment(), timeout=600).stdout.split()
    for name, path in zip(("more", "box"), built, strict=True):
        assert Path(path).read_text() == dumps(manifest_of(clone, name))
    assert "notebook" in manifest_of(clone, "more")["containers"]
    kinds = f"builtins.mapAttrs (_: builtins.attrNames) {{ inherit ((import {root} {{ }}).stages) more box; }}"
    told = run(["nix-instantiate", "--eval", "--strict", "--json", "--expr", kinds], env=nix_environment()).stdout
    assert {name: "disk" in stages for name, stages in json.loads(told).items()} == {"more": True, "box": False}
