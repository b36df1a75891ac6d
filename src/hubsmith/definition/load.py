"""Strict loading of TOML files. One error lists all problems of a file, and suggests known keys for unknown ones."""

from __future__ import annotations

import os
import tomllib
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from hubsmith.definition.extend import base_of, merged
from hubsmith.definition.models import Image, Module, Tools
from hubsmith.errors import DefinitionError
from hubsmith.words import nearest

ModelT = TypeVar("ModelT", bound=BaseModel)
#: Tables that belong in another kind of file, and the hint for each.
_ELSEWHERE: dict[type[BaseModel], tuple[type[BaseModel], str]] = {
    Image: (Module, "put it in a module (modules/NAME/module.toml) and add that module to image.modules"),
    Module: (Image, "put it in an image (images/NAME.toml)"),
}


def problems_error(problems: list[str], where: str) -> DefinitionError:
    """Combine the problems of a file in one error.

    :param problems: at least one problem.
    """
    if len(problems) == 1:
        return DefinitionError(problems[0], where=where)
    return DefinitionError(f"{len(problems)} problems" + "".join(f"\n  - {line}" for line in problems), where=where)


def read(path: Path, root: Path) -> dict[str, Any]:
    """Read a TOML file without validation.

    :param root: folder to which file names in errors are relative.
    :raises DefinitionError: the file is missing or is not TOML.
    """
    where = os.path.relpath(path, root)
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DefinitionError("there is no such file", where=where) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DefinitionError(f"not TOML: {error}", where=where) from None


def load(model: type[ModelT], path: Path, root: Path) -> ModelT:
    """Read and validate a TOML file.

    :param root: project tree, to which file names in errors are relative.
    :raises DefinitionError: the file is missing, is not TOML, or does not match the model.
    """
    return validated(model, _tuples(read(path, root)), os.path.relpath(path, root))


def validated(model: type[ModelT], data: Any, where: str) -> ModelT:
    """Validate a file's data.

    :param data: data with tuples for arrays, as strict mode requires.
    :param where: the file, for errors.
    :raises DefinitionError: the data does not match the model.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise problems_error([_problem(model, one) for one in error.errors()], where) from None


def _tuples(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_tuples(item) for item in value)
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return value


def _problem(model: type[BaseModel], error: Any) -> str:
    loc: tuple[str | int, ...] = error["loc"]
    key = _dotted(loc)
    if error["type"] == "extra_forbidden":
        other, advice = _ELSEWHERE.get(model, (None, ""))
        if other and loc[-1] in other.model_fields:
            return f"unknown key {key!r}; {advice}"
        return f"unknown key {key!r}; {nearest(str(loc[-1]), _known_keys(model, loc[:-1]))}"
    if error["type"] == "missing":
        return f"missing key {key!r}"
    message = error["msg"].removeprefix("Value error, ").replace("valid tuple", "list")
    message = message[0].lower() + message[1:]
    return f"{key}: {message}" if key else str(message)


def _dotted(loc: tuple[str | int, ...]) -> str:
    text = ""
    for part in loc:
        if part == "[key]":
            continue
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _known_keys(model: type[BaseModel], loc: tuple[str | int, ...]) -> list[str]:
    """Return the keys that a model knows at a location of its data."""
    here: Any = model
    for part in loc:
        here = _descend(here, part)
    return list(here.model_fields) if isinstance(here, type) and issubclass(here, BaseModel) else []


def _descend(annotation: Any, part: str | int) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        found = annotation.model_fields.get(str(part))
        return _unwrap(found.annotation) if found else None
    arguments = typing.get_args(annotation)
    # dict[K, V] and tuple[V, ...]
    if typing.get_origin(annotation) is dict:
        return _unwrap(arguments[1])
    return _unwrap(arguments[0]) if arguments else None


def _unwrap(annotation: Any) -> Any:
    if typing.get_origin(annotation) is typing.Annotated:
        return _unwrap(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return next((one for one in typing.get_args(annotation) if one is not type(None)), None)
    return annotation


def image_names(root: Path) -> list[str]:
    """Return the names of all images of a tree, sorted."""
    return sorted(path.stem for path in (root / "images").glob("*.toml"))


def load_image(root: Path, name: str, extending: tuple[str, ...] = ()) -> Image:
    """Load the definition of an image, including what it inherits.

    :param extending: images that extend this one, to find circles.
    :raises DefinitionError: there is no image of that name, or it is invalid.
    """
    where = f"images/{name}.toml"
    if name not in image_names(root):
        raise DefinitionError(f"there is no image {name!r}; {nearest(name, image_names(root))}", where="images/")
    data = _tuples(read(root / where, root))
    if base := base_of(data):
        if base in (way := (*extending, name)):
            circle = " -> ".join((*way[way.index(base) :], base))
            raise DefinitionError(f"images extend each other in a circle: {circle}", where=where)
        if base not in image_names(root):
            hint = nearest(base, image_names(root))
            raise DefinitionError(f"image.extends: there is no image {base!r}; {hint}", where=where)
        data = merged(load_image(root, base, way), data, where)
    image = validated(Image, data, where)
    if image.image.name != name:
        raise DefinitionError(f"image.name is {image.image.name!r}, the file says {name!r}", where=where)
    return image


def load_modules(root: Path) -> dict[str, Module]:
    """Load all modules of a tree by name, which is that of the folder.

    :raises DefinitionError: a module is invalid.
    """
    return {path.parent.name: load(Module, path, root) for path in sorted((root / "modules").glob("*/module.toml"))}


def load_tools(root: Path) -> Tools:
    """Load the packages of the toolchain.

    :raises DefinitionError: `nix/tools.toml` is invalid.
    """
    return load(Tools, root / "nix" / "tools.toml", root)
