"""What a Python file depends on, read from its source.

The files that a test needs follow from what it says, without running it:

- its imports, and theirs;
- names of our modules in its strings, since some programs are started as ``python -m hubsmith.…``;
- in a test, the string ``"hubsmith"``: the command;
- an f-string such as ``f"hubsmith.cli.{verb}"``: those modules of the package that the test names;
- strings that name a file beside it or, for a test, in the tree (``"hosts/single.toml"``).

Only files of the project count. Versions of other packages, of Python and of QEMU are no part of it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from hubsmith.testing.fingerprint import docstrings, fingerprint

_MODULE = re.compile(r"\bhubsmith(?:\.\w+)+")
_PACKAGE = re.compile(r"\bhubsmith(?:\.\w+)*\.$")
#: The name of our command.
COMMAND = "hubsmith"
#: Folders of the tree that hold nothing of it.
NOT_OURS = frozenset({".git", ".venv", "out", "__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache"})


@dataclass(frozen=True)
class Source:
    """One Python file.

    :ivar modules: names that it imports or mentions; a package's name stands for its ``__init__``.
    :ivar packages: packages of which it imports modules by a name made at run time.
    :ivar strings: its string constants, docstrings left out.
    """

    path: Path
    modules: frozenset[str]
    packages: frozenset[str]
    strings: frozenset[str]

    @classmethod
    def parse(cls, path: Path, package: str = "") -> Source:
        """Read a file.

        :param package: the dotted name of the package it is in, for relative imports.
        """
        modules: set[str] = set()
        packages: set[str] = set()
        strings: set[str] = set()
        tree = ast.parse(path.read_text(encoding="utf-8"))
        ignored = {id(one.value) for one in docstrings(tree)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                modules |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
                name = ".".join([*above, *([node.module] if node.module else [])])
                modules |= {name, *(f"{name}.{alias.name}" for alias in node.names)}
            elif isinstance(node, ast.JoinedStr):
                pieces = [one.value for one in node.values if isinstance(one, ast.Constant)]
                packages |= {found[0][:-1] for piece in pieces if (found := _PACKAGE.search(str(piece)))}
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in ignored:
                strings.add(node.value)
                modules |= set(_MODULE.findall(node.value))
        return cls(path, frozenset(modules), frozenset(packages), frozenset(strings))


def _identifiers(words: Iterable[str]) -> set[str]:
    """Words that can be the name of a module, as a verb such as `ssh-for-each` becomes one."""
    return {name for word in words if (name := word.replace("-", "_")).isidentifier()}


def _stamp(path: Path) -> tuple[int, ...]:
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


class Tree:
    """The project's files, as what depends on what.

    :param root: the project's tree.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._sources: dict[Path, Source] = {}
        self._fingerprints: dict[Path, str] = {}
        self._stamps: dict[Path, tuple[int, ...]] = {}
        self._found: dict[tuple[str, Path], Path | None] = {}
        self._closures: dict[frozenset[Path], frozenset[Path]] = {}

    @cached_property
    def _folders(self) -> list[Path]:
        """Where modules are looked for, as in a run of all tests: our packages, the tests, the packages of modules."""
        tests = sorted({path.parent for path in (self.root / "tests").rglob("*.py") if self.owns(path)})
        return [self.root / "src", *tests, *sorted(self.root.glob("modules/*/files/usr/lib/hubsmith/python"))]

    def owns(self, path: Path) -> bool:
        """Whether a path is a part of the project, and not of what is built or installed beside it."""
        try:
            parts = path.relative_to(self.root).parts
        except ValueError:
            return False
        return not NOT_OURS.intersection(parts) and not any(part.endswith(".egg-info") for part in parts)

    def is_test(self, path: Path) -> bool:
        """Whether a file belongs to the tests."""
        return path.is_relative_to(self.root / "tests")

    def fingerprint(self, path: Path) -> str:
        """See :func:`fingerprint`; computed once."""
        if path not in self._fingerprints:
            self._stamps[path] = _stamp(path)
            self._fingerprints[path] = fingerprint(path)
        return self._fingerprints[path]

    def unchanged(self, path: Path) -> bool:
        """Whether a file still has the fingerprint that was computed."""
        try:
            return _stamp(path) == self._stamps.get(path) or fingerprint(path) == self.fingerprint(path)
        except (OSError, SyntaxError):
            return False

    def closure(self, roots: Iterable[Path]) -> frozenset[Path]:
        """All files that some Python files depend on, themselves included."""
        key = frozenset(roots)
        if key not in self._closures:
            self._closures[key] = frozenset(self._closure(key))
        return self._closures[key]

    def _closure(self, roots: Iterable[Path]) -> set[Path]:
        found: set[Path] = set()
        dynamic: set[str] = set()
        words: set[str] = set()
        waiting = list(roots)
        while waiting:
            while waiting:
                path = waiting.pop()
                if path in found:
                    continue
                found.add(path)
                if path.suffix != ".py":
                    continue
                source = self._source(path)
                dynamic |= source.packages
                if self.is_test(path):
                    words |= source.strings
                    waiting += self._modules(["hubsmith.cli"] if COMMAND in source.strings else [], path.parent)
                waiting += self._modules(source.modules, path.parent)
                waiting += self._named(source)
            # Verbs and the like: which of them are used is known when all sources are.
            named = {f"{package}.{word}" for package in dynamic for word in _identifiers(words)}
            waiting = [path for path in self._modules(named, self.root) if path not in found]
        return found

    def _source(self, path: Path) -> Source:
        if path not in self._sources:
            package = ".".join(path.parent.relative_to(self.root / "src").parts) if self._in_src(path) else ""
            self._sources[path] = Source.parse(path, package)
        return self._sources[path]

    def _in_src(self, path: Path) -> bool:
        return path.is_relative_to(self.root / "src")

    def _modules(self, names: Iterable[str], near: Path) -> Iterator[Path]:
        """The files of modules, with the packages that they are in."""
        for name in names:
            parts = name.split(".")
            for count in range(1, len(parts) + 1):
                key = (".".join(parts[:count]), near)
                if key not in self._found:
                    self._found[key] = self._find(Path(*parts[:count]), near)
                if (path := self._found[key]) is not None:
                    yield path

    def _find(self, relative: Path, near: Path) -> Path | None:
        for folder in (near, *self._folders):
            for path in (folder / relative / "__init__.py", folder / relative.with_suffix(".py")):
                if path.is_file() and self.owns(path):
                    return path
        return None

    def _named(self, source: Source) -> Iterator[Path]:
        """Files whose names stand in a source: beside it, or for a test anywhere in the tree."""
        places = [source.path.parent, *([self.root] if self.is_test(source.path) else [])]
        for word in source.strings:
            if not 0 < len(word) < 200 or "\n" in word or "\0" in word or word.startswith(("/", ".")):
                continue
            for place in places:
                path = place / word
                if path.is_file() and self.owns(path):
                    yield path
                elif path.is_dir() and self.is_test(path) and path != self.root / "tests":
                    yield from (one for one in sorted(path.rglob("*")) if one.is_file() and one.suffix != ".py")
