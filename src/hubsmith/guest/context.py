"""Context of a hook."""

from __future__ import annotations

import json
import sys
from typing import Any


def read_context() -> dict[str, Any]:
    """Read the context, described in :mod:`hubsmith.guest`, from standard input."""
    context: dict[str, Any] = json.load(sys.stdin)
    return context
