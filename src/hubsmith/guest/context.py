"""The context of a hook."""

from __future__ import annotations

import json
import sys
from typing import Any


def read_context() -> dict[str, Any]:
    """Read what apply writes to a hook's standard input (:mod:`hubsmith.guest` describes it)."""
    context: dict[str, Any] = json.load(sys.stdin)
    return context
