"""Each stage, built a second time by Nix in another moment, gives the same bytes."""

from __future__ import annotations

from pathlib import Path

import pytest

from hubsmith.build.nix import nix_environment
from hubsmith.run import run

pytestmark = pytest.mark.image

ROOT = Path(__file__).parents[2]


def rebuild(attribute: str) -> None:
    """Build it again and compare with what is in the store; Nix fails when a byte differs."""
    run(
        ["nix-build", ROOT / "nix/default.nix", "--attr", attribute, "--no-out-link", "--check"],
        env=nix_environment(), timeout=1200,
    )  # fmt: skip


@pytest.mark.parametrize("stage", ["manifest", "initrd", "root", "disk", "image"])
def test_stage_is_reproducible(stage: str) -> None:
    """The stages that a change of a template rebuilds, and the initrd."""
    rebuild(f"stages.master.{stage}")


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["packages", "envs"])
def test_package_layer_is_reproducible(stage: str) -> None:
    """The layers that hold the packages."""
    rebuild(f"stages.master.{stage}")


def test_template_rebuilds_no_package_layer(tmp_path: Path) -> None:
    """A changed template leaves the derivations of all package layers as they are, and changes the image's."""
    tree = tmp_path / "tree"
    run(["git", "clone", "--quiet", ROOT, tree])
    for folder in ("nix", "images", "modules", "src"):
        run(["rm", "-rf", tree / folder])
        run(["cp", "-a", ROOT / folder, tree / folder])

    def derivations(folder: Path) -> dict[str, str]:
        stages = ("packages", "initrd", "root", "disk")
        return {
            stage: run(
                ["nix-instantiate", folder / "nix/default.nix", "--attr", f"stages.master.{stage}"],
                env=nix_environment(),
            ).stdout.strip()
            for stage in stages
        }

    before = derivations(tree)
    template = tree / "modules/nginx/templates/hub.conf.j2"
    template.write_text(template.read_text() + "# changed\n")
    after = derivations(tree)
    assert before["packages"] == after["packages"]
    assert before["initrd"] == after["initrd"]
    assert before["root"] != after["root"]
    assert before["disk"] != after["disk"]
