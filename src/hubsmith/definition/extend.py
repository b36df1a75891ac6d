"""`[image] extends`: an image that inherits the definition of another one, and defines only the differences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hubsmith.definition.models import Image
from hubsmith.errors import DefinitionError
from hubsmith.words import nearest

#: Keys of `[image]` that are not inherited.
_NOT_TAKEN_OVER = {"name", "summary", "extends", "without"}


def base_of(data: Mapping[str, Any]) -> str | None:
    """Return `image.extends` of a file that is not validated yet."""
    head = data.get("image")
    name = head.get("extends") if isinstance(head, dict) else None
    return name if isinstance(name, str) else None


def merged(base: Image, own: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Merge a file's data into the definition of the image that it extends.

    Modules are added. Any other key of the file replaces that of the base, also inside tables.

    :param base: the extended image.
    :param own: data of the file, not validated yet.
    :param where: the file, for errors.
    :raises DefinitionError: a machine image cannot become a container image, or `without` names no module of the base.
    """
    if "container" in own and base.container is None:
        raise DefinitionError(
            f"[container] makes this a container image, and {base.image.name!r}, which it extends, is a machine image",
            where=where,
        )
    inherited = base.model_dump(exclude_unset=True)
    inherited["image"] = {key: value for key, value in inherited["image"].items() if key not in _NOT_TAKEN_OVER}
    data = _on_top(inherited, own)
    head, modules = own["image"], inherited["image"]["modules"]
    without, added = head.get("without", ()), head.get("modules", ())
    if isinstance(without, tuple):
        for name in without:
            if name not in modules:
                raise DefinitionError(
                    f"image.without: the modules of {base.image.name!r} do not name {name!r}; "
                    f"{nearest(str(name), modules)}",
                    where=where,
                )
        modules = tuple(name for name in modules if name not in without)
    if isinstance(added, tuple):
        # The image's own modules come first, so that the index in an error is that of the file.
        data["image"]["modules"] = (*added, *modules)
    return data


def _on_top(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    both = {**below, **above}
    for key, value in below.items():
        if isinstance(value, dict) and isinstance(above.get(key), dict):
            both[key] = _on_top(value, above[key])
    return both
