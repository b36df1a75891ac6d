"""What the modules promise of every machine that has them: their `check.py`, as `hubsmith check` runs them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hub_fixtures import Hub

from hubsmith.deploy.check import module_checks

pytestmark = [pytest.mark.vm, pytest.mark.modules("jupyterhub")]


@pytest.mark.reads("modules/*/check.py")
def test_the_checks_of_all_modules_pass(
    hub: Hub, image: Path, pytestconfig: pytest.Config, record_property: Callable[[str, object], None]
) -> None:
    checks = module_checks(pytestconfig.rootpath, image.stem, hub.machine)
    passed = [check for check in checks if check.outcome == "passed"]
    skipped = {f"{check.module}: {check.name}": check.reason for check in checks if check.outcome == "skipped"}
    # They are part of the proof.
    record_property("checks", {"passed": len(passed), "skipped": skipped})
    assert [check for check in checks if check.outcome == "failed"] == []
    assert passed
