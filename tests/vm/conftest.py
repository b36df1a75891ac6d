"""Shared by the tests that boot machines."""

from __future__ import annotations

from bare_fixtures import bare, bare_snapshot  # noqa: F401  (fixtures)
from browser_fixtures import browser  # noqa: F401  (fixtures)
from hub_fixtures import busy_hub, busy_hub_snapshot, hub, hub_snapshot  # noqa: F401  (fixtures)
