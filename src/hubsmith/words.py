"""Help for who mistyped a name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

#: More names than these nobody reads; a package archive has tens of thousands.
MOST_LISTED = 50


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known name that a word was probably meant to be, whatever its case; nothing when none is near."""
    names = {name.lower(): name for name in sorted(known)}
    near = difflib.get_close_matches(word.lower(), names, n=1, cutoff=0.6)
    return names[near[0]] if near else None


def nearest(word: str, known: Iterable[str]) -> str:
    """`did you mean 'x'?` or, when nothing is near, `known: a, b, c`."""
    names = sorted(known)
    if near := closest(word, names):
        return f"did you mean {near!r}?"
    if len(names) > MOST_LISTED:
        return f"nothing near it is among the {len(names)} known ones"
    return f"known: {', '.join(names)}" if names else "there are none"
