"""How well the units of the modules are confined, by systemd's own rating of each: 0 is confined, 10 is not at all."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from image_parts import ROOT, Output

from hubsmith.definition import define
from hubsmith.run import run

pytestmark = [pytest.mark.image, pytest.mark.modules("hardening")]

PAGE = ROOT / "docs/operators/hardening.md"
#: Above this, systemd calls a unit exposed.
MOST = 5.0
UNITS = "usr/lib/systemd/system"


def own_services(image: str, tree: Path) -> set[str]:
    """Return the services that an image's modules bring, enable or change."""
    found: set[str] = set()
    for name, module in define(ROOT, image).modules.items():
        files = ROOT / "modules" / name / "files" / UNITS
        found |= {path.name for path in files.glob("*.service")}
        found |= {path.name.removesuffix(".d") for path in files.glob("*.service.d")}
        found |= {unit for unit in module.units.enable if unit.endswith(".service")}
    return {unit for unit in found if (tree / UNITS / unit).exists()}


@pytest.mark.reads("modules/*/files/usr/lib/systemd/system/*")
def test_units_are_confined_or_the_page_says_why_not(output: Output, tree: Path) -> None:
    units = sorted(own_services(output.name, tree))
    assert "hubsmith-apply.service" in units
    # The machine's own systemd-analyze: other versions rate differently. Root in a user namespace may change the root.
    rated = run(
        ["unshare", "--map-root-user", f"--root={tree}", "/usr/bin/systemd-analyze", "security", "--offline=yes",
         "--no-pager", *units],
        timeout=120,
    ).stdout  # fmt: skip
    # Templates are rated by an instance.
    rated = rated.replace("@test_instance.service", "@.service")
    scores = dict(re.findall(r"Overall exposure level for (\S+): (\d+\.\d)", rated))
    assert scores.keys() == set(units)
    rows = re.findall(r"^\| `(\S+\.service)` \| (\d+\.\d) \| (.*) \|$", PAGE.read_text(), flags=re.MULTILINE)
    page = {unit: score for unit, score, _ in rows}
    assert {unit: score for unit, score in scores.items() if page.get(unit) != score} == {}, "the page says otherwise"
    reasons = {unit for unit, _, reason in rows if reason.strip()}
    assert {unit for unit, score in scores.items() if float(score) > MOST} <= reasons
