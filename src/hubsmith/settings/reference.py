"""Generator of ``docs/operators/settings.md`` from the schema, so that the page always matches the checks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from hubsmith.settings.load import is_secret
from hubsmith.settings.scalars import Label, format_duration, format_size
from hubsmith.settings.schema import Schema

HEAD = """\
# Settings

<!-- Made from the schema by `hubsmith settings reference --write`. Do not edit. -->

All settings of a machine are in one file, `/etc/hubsmith/settings.toml`. cloud-init writes it from user-data:

```yaml
#cloud-config
write_files:
  - path: /etc/hubsmith/settings.toml
    permissions: "0600"
    content: |
      [hub]
      domain = "hub.example.org"
      admins = ["alice"]

      [tls]
      mode = "letsencrypt"
      email = "admin@example.org"

      [[users]]
      name = "alice"
      password_hash = "$2b$12$…"
```

- `hubsmith settings check FILE` reports on your own computer every problem that the machine would find, with line
  numbers. `--image` names the machine's image.
- `hubsmith settings hash-password` makes a `password_hash`.
- After an edit on the machine: `sudo hubsmith apply`, then `hubsmith status`.
- If the file is missing or invalid, the machine boots but serves no hub. The reason is on its console, on its web page,
  in its journal, and in the output of `hubsmith status`.

A size is a number with `K`, `M`, `G` or `T` (powers of 1024), such as `"512M"`. A duration is `"90s"`, `"10m"`,
`"1h30m"` or `"2d"`. Every key is optional unless it is marked *required*.
"""
SCALARS = {str: "string", bool: "true or false", int: "whole number", float: "number"}


def _labels(annotation: Any) -> Iterator[str]:
    for mark in getattr(annotation, "__metadata__", ()):
        if isinstance(mark, Label):
            yield mark.text
    for argument in get_args(annotation):
        yield from _labels(argument)


def _type(field: FieldInfo) -> str:
    """Return the type of a field in words."""
    annotation: Any = field.annotation
    own = [mark.text for mark in field.metadata if isinstance(mark, Label)]
    if get_origin(annotation) in (Union, UnionType):
        annotation = next(argument for argument in get_args(annotation) if argument is not NoneType)
    if get_origin(annotation) is Literal:
        return "one of " + ", ".join(f"`{json.dumps(choice)}`" for choice in get_args(annotation))
    name = next(iter([*own, *_labels(annotation)]), None)
    if get_origin(annotation) is tuple:
        return f"list of {name}s" if name else "list of tables, below"
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    return name or SCALARS[annotation]


def _written(value: Any, kind: str) -> str:
    """Return a value in TOML notation."""
    if kind == "size" and isinstance(value, int):
        value = format_size(value)
    elif kind == "duration" and isinstance(value, int):
        value = format_duration(value)
    elif isinstance(value, tuple):
        value = list(value)
    if isinstance(value, list) and any(isinstance(one, dict) for one in value):
        tables = ("{" + ", ".join(f"{key} = {json.dumps(one)}" for key, one in row.items()) + "}" for row in value)
        return f"[{', '.join(tables)}]"
    if isinstance(value, str) and "\n" in value:
        return f'"""{value.partition(chr(10))[0]}…"""'
    return json.dumps(value, ensure_ascii=False)


def _default(field: FieldInfo, kind: str) -> str:
    if field.is_required():
        return "*required*"
    default = field.get_default()
    return "none" if default is None or default is PydanticUndefined else f"`{_written(default, kind)}`"


def _images(names: tuple[str, ...]) -> str:
    return " and ".join(f"`{name}`" for name in names)


def _row(name: str, field: FieldInfo, only: tuple[str, ...]) -> str:
    """Return a row of a table.

    :param only: the images with this key, if other images have the table without it.
    """
    kind = _type(field)
    example = _written(field.examples[0], kind) if field.examples else ""
    secret = " *Secret.*" if is_secret(field) else ""
    images = f" Image: {_images(only)}." if only else ""
    cells = (f"`{name}`", kind, _default(field, kind), f"`{example}`", f"{field.description}{secret}{images}")
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def tables(schema: Schema) -> Iterator[tuple[str, type[BaseModel]]]:
    """Yield the TOML header and the model of each table. A table comes before its inner tables."""
    for name, table in schema.tables.items():
        yield table.title, table.model
        yield from _inner(table.model, f"{name}.")


def _inner(model: type[BaseModel], above: str) -> Iterator[tuple[str, type[BaseModel]]]:
    for name, field in model.model_fields.items():
        annotation: Any = field.annotation
        many = get_origin(annotation) is tuple
        inner = get_args(annotation)[0] if many else annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            path = f"{above}{name}"
            yield f"[[{path}]]" if many else f"[{path}]", inner
            yield from _inner(inner, f"{path}.")


def reference(schema: Schema, readers: Mapping[str, tuple[str, ...]]) -> str:
    """Return the whole page as Markdown.

    :param schema: combined schema of all images.
    :param readers: images that read each table and each key.
    """
    parts = [HEAD]
    for title, model in tables(schema):
        path = title.strip("[]")
        # An inner table is in the same images as the key that holds it.
        images = readers[".".join(path.split(".")[:2])]
        rows = [
            _row(name, field, found if (found := readers.get(f"{path}.{name}", images)) != images else ())
            for name, field in model.model_fields.items()
        ]
        head = "| key | type | default | example | |\n|---|---|---|---|---|"
        body = "\n".join(rows)
        parts.append(f"## `{title}`\n\n{model.__doc__} Read by: {_images(images)}.\n\n{head}\n{body}\n")
    return "\n".join(parts)
