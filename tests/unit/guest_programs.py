"""The programs of machines for tests: they have no `.py` at their end, and are made for paths of a machine."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

MODULES = Path(__file__).parents[2] / "modules"


def load(path: str, **constants: Any) -> dict[str, Any]:
    """The names of a program below `modules/` as its functions see them, some set to others; it is not run."""
    names: dict[str, Any] = runpy.run_path(str(MODULES / path))["main"].__globals__
    names.update(constants)
    return names
