"""Line numbers of the keys of a TOML file, for error messages.

:mod:`tomllib` does not report lines. In a valid file, the scan below finds every ``[table]``, ``[[array of tables]]``
and ``key = …`` line. Keys inside inline tables get the line of the outer key.
"""

from __future__ import annotations

import re

_HEADER = re.compile(r"^\s*(\[\[?)([^\]]+)\]")
_KEY = re.compile(
    r"""^\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*=\s*(.*)$"""
)
_QUOTES = ('"""', "'''")


def _plain(dotted: str) -> str:
    return ".".join(part.strip().strip("\"'") for part in dotted.split("."))


def _open_quote(text: str) -> str | None:
    """Return the delimiter of a multi-line string that begins in ``text`` and does not end there, else None."""
    for quote in _QUOTES:
        if text.count(quote) % 2:
            return quote
    return None


def _depth(text: str) -> int:
    """Return how many array brackets ``text`` leaves open, ignoring strings and comments."""
    bare = re.sub(r"\"(?:\\.|[^\"\\])*\"|'[^']*'|#.*", "", text)
    return bare.count("[") - bare.count("]")


def key_lines(text: str) -> dict[str, int]:
    """Return the line of each key path, such as ``{"hub": 1, "hub.domain": 2, "users[0].name": 5}``."""
    lines: dict[str, int] = {}
    tables: dict[str, int] = {}
    prefix, quote, depth = "", None, 0
    for number, line in enumerate(text.splitlines(), 1):
        if quote:
            quote = None if quote in line else quote
        elif depth > 0:
            depth += _depth(line)
        elif header := _HEADER.match(line):
            prefix = _plain(header[2])
            if header[1] == "[[":
                index = tables[prefix] = tables.get(prefix, -1) + 1
                lines.setdefault(prefix, number)
                prefix = f"{prefix}[{index}]"
            lines.setdefault(prefix, number)
        elif key := _KEY.match(line):
            path = f"{prefix}.{_plain(key[1])}" if prefix else _plain(key[1])
            lines.setdefault(path, number)
            quote = _open_quote(key[2])
            depth = 0 if quote else _depth(key[2])
    return lines


def nearest_line(lines: dict[str, int], path: str) -> int | None:
    """Return the line of ``path``, or of the nearest enclosing key. None if there is none."""
    while path:
        if path in lines:
            return lines[path]
        path = re.sub(r"(\.[^.\[]*|\[\d+\]|^[^.\[]*)$", "", path)
    return None
