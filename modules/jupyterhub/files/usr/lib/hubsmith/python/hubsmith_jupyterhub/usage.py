"""Warnings for users whose home is nearly full."""

from __future__ import annotations

import json
from pathlib import Path

USAGE = Path("/run/hubsmith/usage")
MIB = 1024**2
#: Shares of the quota at which a home counts as nearly full and as full.
NEAR, FULL = 0.9, 0.995


def home_usage(name: str, folder: Path = USAGE) -> str | None:
    """Return a warning for a user whose home is nearly full, else None."""
    try:
        usage = json.loads((folder / f"{name}.json").read_text())
    except (OSError, ValueError):
        return None
    shares = ((usage["used"], usage["limit"]), (usage["files"], usage["files_limit"]))
    share = max((used / limit for used, limit in shares if limit), default=0.0)
    if share < NEAR:
        return None
    amount = f"{usage['used'] / MIB:.0f} of {usage['limit'] / MIB:.0f} MiB, {usage['files']} files"
    if share >= FULL:
        return f"Your home is full ({amount}): nothing can be saved. Delete what you do not need."
    return f"Your home is nearly full ({amount}): delete what you do not need."
