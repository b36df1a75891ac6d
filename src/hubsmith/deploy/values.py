"""Placeholders in the settings of `hosts/*.toml`, filled in when a deployment is made.

They are `${address.master}`, `${secret.cluster}`, `${key.cluster}` and `${pin.cluster}`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from hubsmith.errors import DefinitionError

_PLACE = re.compile(r"\$\{([^{}]*)\}")
_NAME = re.compile(r"[a-z][a-z0-9-]*")

#: Returns the value of a name, and makes it at the first call. Raises LookupError, with the reason, if there is none.
Source = Callable[[str], str]


def fill(value: Any, sources: Mapping[str, Source], where: str) -> Any:
    """Return a copy of settings with each `${kind.name}` in their strings filled in.

    :param sources: function for each kind.
    :param where: location of the settings, for errors.
    :raises DefinitionError: a kind or name is unknown.
    """

    def found(match: re.Match[str]) -> str:
        kind, _, name = match[1].partition(".")
        if kind not in sources or not _NAME.fullmatch(name):
            known = ", ".join(f"${{{one}.NAME}}" for one in sources)
            raise DefinitionError(f"{match[0]}: known are {known}", where=where)
        try:
            return sources[kind](name)
        except LookupError as error:
            raise DefinitionError(f"{match[0]}: {error.args[0]}", where=where) from None

    if isinstance(value, str):
        return _PLACE.sub(found, value)
    if isinstance(value, Mapping):
        return {key: fill(one, sources, f"{where}.{key}") for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [fill(one, sources, where) for one in value]
    return value
