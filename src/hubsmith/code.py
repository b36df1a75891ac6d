"""Find the files of this package that a build stage or an appliance needs, by following imports.

`nix/code.nix` does the same for the derivations. A test compares the results.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

#: Packages that run in an appliance, with everything that they import.
GUEST = ("guest", "settings")


def stage_file(stage: str) -> str:
    """Return the path of a stage's program, relative to the folder that contains the package."""
    return f"hubsmith/build/stages/{stage}.py"


def guest_files(source: Path) -> list[str]:
    """Return the files of the package that are in an appliance.

    :param source: folder that contains the package.
    :returns: sorted paths relative to it.
    """
    rooms = (path for room in GUEST for path in (source / "hubsmith" / room).rglob("*") if path.is_file())
    return closure(source, (str(path.relative_to(source)) for path in rooms if "__pycache__" not in path.parts))


def closure(source: Path, paths: Iterable[str]) -> list[str]:
    """Return files and all files of the package that they import, directly or indirectly, sorted."""
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
    """Return the dotted names that Python source imports."""
    found: list[str] = []
    for node in ast.walk(ast.parse(content)):
        if isinstance(node, ast.Import):
            found += [one.name for one in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [f"{node.module}.{one.name}" for one in node.names]
    return tuple(found)


def _files_of(source: Path, dotted: str) -> Iterator[str]:
    """Return the files that Python reads to import a name: the `__init__.py` of each package, and its own file."""
    parts = dotted.split(".")
    if parts[0] != "hubsmith":
        return
    for count in range(1, len(parts) + 1):
        name = "/".join(parts[:count])
        for path in (f"{name}/__init__.py", f"{name}.py"):
            if (source / path).is_file():
                yield path
