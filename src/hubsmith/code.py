"""Which files of this package a stage of the build, or the machine itself, is made of: imports, followed to their end.

`nix/code.nix` finds the same for the derivations; a test compares the two.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

#: Rooms that run in an appliance, with everything that they import.
GUEST = ("guest", "settings")


def stage_file(stage: str) -> str:
    """The program of a stage, relative to the folder of the package."""
    return f"hubsmith/build/stages/{stage}.py"


def guest_files(source: Path) -> list[str]:
    """What an appliance holds of the package.

    :param source: the folder that holds the package.
    :returns: paths relative to it, sorted.
    """
    rooms = (path for room in GUEST for path in (source / "hubsmith" / room).rglob("*") if path.is_file())
    return closure(source, (str(path.relative_to(source)) for path in rooms if "__pycache__" not in path.parts))


def closure(source: Path, paths: Iterable[str]) -> list[str]:
    """Files and all files that they import of the package, sorted."""
    found: set[str] = set()
    waiting = list(paths)
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            if path.endswith(".py"):
                waiting += (
                    file for name in _imported((source / path).read_bytes()) for file in _files_of(source, name)
                )
    return sorted(found)


@cache
def _imported(content: bytes) -> tuple[str, ...]:
    """The dotted names that a file with this content imports."""
    found: list[str] = []
    for node in ast.walk(ast.parse(content)):
        if isinstance(node, ast.Import):
            found += [one.name for one in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [f"{node.module}.{one.name}" for one in node.names]
    return tuple(found)


def _files_of(source: Path, dotted: str) -> Iterator[str]:
    """What Python reads to import a name: the `__init__.py` of each package above it, and its own file."""
    parts = dotted.split(".")
    if parts[0] != "hubsmith":
        return
    for count in range(1, len(parts) + 1):
        name = "/".join(parts[:count])
        for path in (f"{name}/__init__.py", f"{name}.py"):
            if (source / path).is_file():
                yield path
