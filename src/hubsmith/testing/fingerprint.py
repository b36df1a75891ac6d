"""A checksum of what a file means."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hubsmith import files


def fingerprint(path: Path) -> str:
    """A checksum of what a file means: of its bytes, or for Python of its syntax tree.

    Comments, formatting and docstrings do not count, except where a program reads its own (``__doc__``).
    """
    if path.suffix != ".py":
        return files.sha256(path)
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    ignored = set() if "__doc__" in text else {id(one) for one in docstrings(tree)}
    return hashlib.sha256(repr(_plain(tree, ignored)).encode()).hexdigest()


def _plain(node: Any, ignored: set[int]) -> Any:
    """A syntax tree as nested lists, the same for every version of Python that has its syntax."""
    if isinstance(node, ast.AST):
        # Empty fields are left out: later versions of Python add some.
        fields = ((name, _plain(value, ignored)) for name, value in ast.iter_fields(node) if name != "kind")
        return [type(node).__name__, *((name, value) for name, value in fields if value not in (None, []))]
    if isinstance(node, list):
        return [_plain(one, ignored) for one in node if id(one) not in ignored]
    return node if node is None else repr(node)


def docstrings(tree: ast.AST) -> Iterator[ast.Expr]:
    """The statements of a module that are docstrings."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first = node.body[0]
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                yield first
