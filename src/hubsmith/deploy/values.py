"""What settings of `hosts/*.toml` leave open until a deployment is made: `${address.master}`, `${secret.cluster}`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from hubsmith.definition.load import nearest
from hubsmith.errors import DefinitionError

_PLACE = re.compile(r"\$\{([^{}]*)\}")
_SECRET = re.compile(r"[a-z][a-z0-9-]*")


def fill(value: Any, addresses: Mapping[str, str], secret: Callable[[str], str], where: str) -> Any:
    """A copy of settings with every `${…}` in its strings filled in.

    :param addresses: of the machines, on the private network.
    :param secret: gives the secret of a name, which is made when it is first asked for.
    :param where: of the settings, for errors.
    :raises DefinitionError: nothing of that name is known.
    """

    def found(match: re.Match[str]) -> str:
        kind, _, name = match[1].partition(".")
        if kind == "address":
            if name in addresses:
                return addresses[name]
            raise DefinitionError(f"{match[0]}: no machine {name!r}; {nearest(name, addresses)}", where=where)
        if kind == "secret" and _SECRET.fullmatch(name):
            return secret(name)
        raise DefinitionError(f"{match[0]}: only ${{address.MACHINE}} and ${{secret.NAME}} are known", where=where)

    if isinstance(value, str):
        return _PLACE.sub(found, value)
    if isinstance(value, Mapping):
        return {key: fill(one, addresses, secret, f"{where}.{key}") for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [fill(one, addresses, secret, where) for one in value]
    return value
