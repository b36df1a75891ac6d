"""Suggestions for mistyped names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

#: Longest list of names in a message. A package archive has tens of thousands.
MOST_LISTED = 50


def closest(word: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most similar to a word, ignoring case, or None."""
    names = {name.lower(): name for name in sorted(known)}
    near = difflib.get_close_matches(word.lower(), names, n=1, cutoff=0.6)
    return names[near[0]] if near else None


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `did you mean 'x'?` or, if no name is similar, `known: a, b, c`."""
    names = sorted(known)
    if near := closest(word, names):
        return f"did you mean {near!r}?"
    if len(names) > MOST_LISTED:
        return f"none of the {len(names)} known names is similar"
    return f"known: {', '.join(names)}" if names else "there are none"
