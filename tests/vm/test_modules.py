"""What the modules promise of every machine that has them: their `check.py`, as `hubsmith check` runs them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hub_fixtures import Hub

from hubsmith.deploy.check import module_checks

pytestmark = pytest.mark.vm


def test_the_checks_of_all_modules_pass(hub: Hub, pytestconfig: pytest.Config) -> None:
    checks = module_checks(Path(pytestconfig.rootpath), "master", hub.machine)
    assert checks
    assert [check for check in checks if check.outcome == "failed"] == []
