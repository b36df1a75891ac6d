"""Settings schemas of the images of a tree."""

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
    """Return the schema of one image, without knowledge of other images.

    :raises DefinitionError: the modules' settings contradict each other.
    """
    return replace(compose(read_parts(definition.root / "modules", definition.modules)), image=definition.name)


def schemas(root: Path) -> dict[str, Schema]:
    """Return the schema of every machine image by name. Each knows the tables and keys of the others.

    :raises DefinitionError: a definition is invalid.
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
    """Return the schema of one image, with knowledge of the other images.

    :param where: location that names the image, for errors.
    :raises DefinitionError: there is no machine image of that name, or a definition is invalid.
    """
    known = schemas(root)
    if image not in known:
        raise DefinitionError(f"there is no image of machines {image!r}; {nearest(image, known)}", where=where)
    return known[image]


def readers(known: Mapping[str, Schema], bases: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """Return the images that have each table (``users``) and each key (``users.quota``).

    :param bases: images that each image extends. An image is left out where one of these is listed.
    """
    found: dict[str, tuple[str, ...]] = {}
    for image, schema in sorted(known.items()):
        inherited = {key for base in bases[image] if base in known for key in keys_of(known[base])}
        for key in keys_of(schema):
            if key not in inherited:
                found[key] = (*found.get(key, ()), image)
    return found


def all_readers(root: Path) -> dict[str, tuple[str, ...]]:
    """Return the :func:`readers` of a tree's images.

    :raises DefinitionError: a definition is invalid.
    """
    known = schemas(root)
    return readers(known, {name: define(root, name).bases for name in known})


def whole_schema(root: Path) -> Schema:
    """Return the combined schema of all images.

    :raises DefinitionError: a definition is invalid, or two modules of the tree declare the same key.
    """
    names = image_names(root)
    return compose(read_parts(root / "modules", {topic for name in names for topic in define(root, name).modules}))


def closest_image(file: Path, known: Mapping[str, Schema]) -> str:
    """Guess the image of a settings file: the one that reads most of its tables.

    :param known: schema of every image. If several images read as many tables, the one with fewest problems is chosen.
    """
    try:
        raw = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        raw = {}  # every image reports the same problem

    def distance(name: str) -> tuple[int, int]:
        _, problems = check(raw, known[name])
        return -len(raw.keys() & known[name].tables.keys()), len(problems)

    return min(sorted(known), key=distance)


def problems_of(root: Path, table: str, value: Any) -> list[Problem]:
    """Return the problems of a single table, whatever the other tables are.

    :returns: problems according to the most lenient image.
    :raises DefinitionError: a definition is invalid.
    """
    found = []
    for schema in schemas(root).values():
        if table in schema.tables:
            _, problems = check({table: value}, schema)
            found.append([one for one in problems if one.key.startswith((f"{table}.", f"{table}["))])
    return min(found, key=len, default=[])
