"""What settings of `hosts/*.toml` leave open until a deployment is made.

`${address.master}`, `${secret.cluster}`, `${key.cluster}` and `${pin.cluster}`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from hubsmith.errors import DefinitionError

_PLACE = re.compile(r"\$\{([^{}]*)\}")
_NAME = re.compile(r"[a-z][a-z0-9-]*")

#: Gives the value of a name, and makes it when it is first asked for; a LookupError says why there is none.
Source = Callable[[str], str]


def fill(value: Any, sources: Mapping[str, Source], where: str) -> Any:
    """A copy of settings with every `${kind.name}` in its strings filled in.

    :param sources: by kind.
    :param where: of the settings, for errors.
    :raises DefinitionError: nothing of that name is known.
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
