"""The settings that the images of a tree understand."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hubsmith.definition.load import image_names, load_image
from hubsmith.definition.resolve import Definition, define
from hubsmith.errors import DefinitionError
from hubsmith.settings.errors import Problem
from hubsmith.settings.load import check
from hubsmith.settings.schema import Schema, compose, keys_of, read_parts
from hubsmith.words import nearest


def schema_of(definition: Definition) -> Schema:
    """What a settings file of one image may hold; it knows no other image.

    :raises DefinitionError: the modules' settings do not fit together.
    """
    return replace(compose(read_parts(definition.root / "modules", definition.modules)), image=definition.name)


def schemas(root: Path) -> dict[str, Schema]:
    """The schema of every image of machines, by its name; each knows which tables and keys the others have.

    :raises DefinitionError: a definition is wrong.
    """
    machines = [name for name in image_names(root) if load_image(root, name).container is None]
    definitions = {name: define(root, name) for name in machines}
    alone = {name: schema_of(one) for name, one in definitions.items()}
    bases = {name: one.bases for name, one in definitions.items()}
    return {
        name: replace(schema, elsewhere=readers({other: alone[other] for other in machines if other != name}, bases))
        for name, schema in alone.items()
    }


def schema_for(root: Path, image: str, where: str) -> Schema:
    """The schema of one image, which knows the other images, too.

    :param where: what names the image, for the error.
    :raises DefinitionError: there is no image of machines of that name, or a definition is wrong.
    """
    known = schemas(root)
    if image not in known:
        raise DefinitionError(f"there is no image of machines {image!r}; {nearest(image, known)}", where=where)
    return known[image]


def readers(known: Mapping[str, Schema], bases: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """The images that have each table (``users``) and each key (``users.quota``).

    :param bases: the images that each one extends. What an image took over from one of them is not repeated.
    """
    found: dict[str, tuple[str, ...]] = {}
    for image, schema in sorted(known.items()):
        inherited = {key for base in bases[image] if base in known for key in keys_of(known[base])}
        for key in keys_of(schema):
            if key not in inherited:
                found[key] = (*found.get(key, ()), image)
    return found


def all_readers(root: Path) -> dict[str, tuple[str, ...]]:
    """:func:`readers` of a tree.

    :raises DefinitionError: a definition is wrong.
    """
    known = schemas(root)
    return readers(known, {name: define(root, name).bases for name in known})


def whole_schema(root: Path) -> Schema:
    """The tables of all images together.

    :raises DefinitionError: a definition is wrong, or two modules of the tree declare the same key.
    """
    names = image_names(root)
    return compose(read_parts(root / "modules", {topic for name in names for topic in define(root, name).modules}))


def closest_image(file: Path, known: Mapping[str, Schema]) -> str:
    """The image that a settings file was probably written for: the one that reads the most of its tables.

    :param known: the schema of every image. Among several, the one that finds the fewest problems is taken.
    """
    try:
        raw = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        raw = {}  # every image says the same about it

    def distance(name: str) -> tuple[int, int]:
        _, problems = check(raw, known[name])
        return -len(raw.keys() & known[name].tables.keys()), len(problems)

    return min(sorted(known), key=distance)


def problems_of(root: Path, table: str, value: Any) -> list[Problem]:
    """What is wrong with a table that will be in somebody's settings, whatever else is there.

    :returns: the problems that the most lenient image finds in it.
    :raises DefinitionError: a definition is wrong.
    """
    found = []
    for schema in schemas(root).values():
        if table in schema.tables:
            _, problems = check({table: value}, schema)
            found.append([one for one in problems if one.key.startswith((f"{table}.", f"{table}["))])
    return min(found, key=len, default=[])
