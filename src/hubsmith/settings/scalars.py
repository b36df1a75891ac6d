"""Scalar types of the settings, such as sizes and durations.

A size is written ``"512M"`` or ``"2G"`` (powers of 1024) and stored in bytes. A duration is written ``"90s"``,
``"10m"``, ``"1h30m"`` or ``"2d"`` and stored in seconds. Plain integers are bytes or seconds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, AllowInfNan, BeforeValidator, Strict

SIZE_UNITS = {"K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}
DURATION_UNITS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT])(?:i?B)?", re.IGNORECASE)
_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")


@dataclass(frozen=True)
class Label:
    """Name of a type in the reference and in error messages."""

    text: str


@dataclass(frozen=True)
class Secret:
    """Marks a field whose value is never shown."""


def parse_size(value: Any) -> int:
    """Parse a size such as ``"512M"``, ``"2G"`` or ``"1.5 GiB"``, or an integer, and return bytes.

    :raises ValueError: the value is not a size.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str) and (match := _SIZE.fullmatch(value.strip())):
        return int(float(match[1]) * SIZE_UNITS[match[2].upper()])
    raise ValueError('not a size: write a number and K, M, G or T (powers of 1024), such as "512M" or "2G"')


def parse_duration(value: Any) -> int:
    """Parse a duration such as ``"90s"``, ``"10m"``, ``"1h30m"`` or ``"2d"``, or an integer, and return seconds.

    :raises ValueError: the value is not a duration.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str) and value.strip() and (match := _DURATION.fullmatch(value.strip())):
        return sum(int(n) * unit for n, unit in zip(match.groups("0"), DURATION_UNITS.values(), strict=True))
    raise ValueError('not a duration: write numbers with d, h, m or s, such as "90s", "10m" or "1h30m"')


def one_line(value: str) -> str:
    """Validate text without line breaks and other control characters.

    :raises ValueError: the text has some.
    """
    if any(ord(character) < 32 or ord(character) == 127 for character in value):
        raise ValueError("one line of plain text is wanted, without control characters")
    return value


def format_size(size: int) -> str:
    """Return the shortest exact notation of a size in bytes, such as ``2G``."""
    for suffix, unit in reversed(SIZE_UNITS.items()):
        if size and size % unit == 0:
            return f"{size // unit}{suffix}"
    return str(size)


def format_duration(seconds: int) -> str:
    """Return the shortest exact notation of a duration in seconds, such as ``1h30m``."""
    text, rest = "", seconds
    for suffix, unit in DURATION_UNITS.items():
        count, rest = divmod(rest, unit)
        text += f"{count}{suffix}" if count else ""
    return text or "0s"


Bool = Annotated[bool, Strict()]
Int = Annotated[int, Strict()]
Number = Annotated[float, Strict(), AllowInfNan(False)]
Str = Annotated[str, Strict()]
Size = Annotated[int, BeforeValidator(parse_size), Label("size")]
Duration = Annotated[int, BeforeValidator(parse_duration), Label("duration")]
Line = Annotated[Str, AfterValidator(one_line)]
