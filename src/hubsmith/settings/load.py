"""Loading and validation of a settings file. All problems are reported at once."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from hubsmith.settings.errors import Problem, SettingsError
from hubsmith.settings.lines import key_lines, nearest_line
from hubsmith.settings.scalars import Label, Secret, format_duration, format_size
from hubsmith.settings.schema import Schema
from hubsmith.words import closest

#: Limit in bytes. Clouds accept much less user-data (OpenStack: 64 KiB), so a larger file is given by mistake.
LARGEST_FILE = 1024 * 1024

#: Messages for pydantic's error types. ``{name}`` is filled in from the error's context.
SENTENCES = {
    "missing": "is missing",
    "string_type": "must be a string in quotes, not {got}",
    "int_type": "must be a whole number, not {got}",
    "float_type": "must be a number, not {got}",
    "bool_type": "must be true or false, not {got}",
    "tuple_type": "must be a list, not {got}",
    "model_type": "must be a table, not {got}",
    "model_attributes_type": "must be a table, not {got}",
    "literal_error": "must be {expected}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "string_too_long": "must have at most {max_length} characters",
    "value_error": "{error}",
    "finite_number": "must be a finite number",
}
TOML_TYPES = {
    str: "a string",
    bool: "true or false",
    int: "a whole number",
    float: "a number with a fraction",
    list: "a list",
    dict: "a table",
}


@dataclass(frozen=True)
class Settings:
    """Validated settings.

    :ivar tables: value of each table of the schema: a ``Table``, or a tuple of them.
    :ivar facts: values derived from the tables.
    """

    tables: Mapping[str, Any]
    facts: Mapping[str, Any]

    def plain(self) -> dict[str, Any]:
        """Return the tables as JSON data, with sizes in bytes and durations in seconds."""
        return {
            name: [one.model_dump(mode="json") for one in value]
            if isinstance(value, tuple)
            else value.model_dump(mode="json")
            for name, value in self.tables.items()
        }


def load(path: Path, schema: Schema) -> Settings:
    """Read and validate a settings file.

    :raises SettingsError: the file is missing, unreadable, not TOML or invalid. It has all problems.
    """
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except FileNotFoundError:
        raise _failed(path, "the file does not exist; cloud-init writes it from user-data (`write_files`)") from None
    except OSError as error:
        raise _failed(path, f"cannot be read: {error.strerror}") from None
    return parse(data, str(path), schema)


def parse(data: bytes, file: str, schema: Schema) -> Settings:
    """Validate the bytes of a settings file.

    :param file: name of the file for messages.
    :raises SettingsError: the file is invalid. It has all problems.
    """
    text = _decode(data, file)
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(file, (_syntax_problem(error, text),)) from None
    except RecursionError:
        raise _failed(Path(file), "not TOML: nested too deeply") from None
    tables, problems = check(raw, schema)
    if problems:
        lines = key_lines(text)
        placed = [Problem(p.key, p.what, nearest_line(lines, p.key), p.value, p.hint) for p in problems]
        raise SettingsError(file, tuple(sorted(placed, key=lambda p: p.line or 0)))
    return Settings(tables, schema.facts_of(tables))


def check(raw: Mapping[str, Any], schema: Schema) -> tuple[dict[str, Any], list[Problem]]:
    """Return the value of each valid table, and all problems. The problems have no line numbers yet."""
    tables: dict[str, Any] = {}
    problems: list[Problem] = []
    for key in raw:
        if key not in schema.tables:
            problems.append(_unknown(key, schema) if isinstance(raw[key], dict | list) else _stray(key, schema))
    for name, table in schema.tables.items():
        value = raw.get(name, [] if table.many else {})
        try:
            tables[name] = TypeAdapter(table.annotation).validate_python(value)
        except ValidationError as error:
            problems += (_problem(name, detail, raw, schema) for detail in error.errors(include_url=False))
    for rule in schema.rules:
        if schema.tables_of(rule) <= tables.keys():
            facts = schema.facts_of(tables, rule.facts)
            values = [*(tables[name] for name in rule.tables), *(facts[name] for name in rule.facts)]
            problems += (_found(key, what, raw, schema) for key, what in rule.judge(*values))
    return tables, problems


def _failed(path: Path, what: str) -> SettingsError:
    return SettingsError(str(path), (Problem("", what),))


def _decode(data: bytes, file: str) -> str:
    if len(data) > LARGEST_FILE:
        raise _failed(Path(file), f"larger than {LARGEST_FILE // 1024} KiB: this is no settings file")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise _failed(Path(file), "the text is UTF-16: save it as UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SettingsError(file, (Problem("", "not UTF-8 text", line),)) from None
    if not text.strip():
        raise _failed(Path(file), "the file is empty")
    return text


def _syntax_problem(error: tomllib.TOMLDecodeError, text: str) -> Problem:
    message = re.sub(r"\s*\(at .*\)$", "", str(error))
    place = re.search(r"\(at line (\d+), column (\d+)\)$", str(error))
    line = int(place[1]) if place else len(text.splitlines())
    message = re.sub(r"\('([^']*)',\)", r"[\1]", message)
    column = f" in column {place[2]}" if place else " at the end of the file"
    # The parser's message may repeat keys, but not values, which could be secrets.
    return Problem("", f"not TOML{column}: {message[0].lower() + message[1:]}", line)


def _walk(name: str, loc: tuple[int | str, ...], schema: Schema) -> tuple[str, FieldInfo | None]:
    """Return the key path as written in messages, and the field that it leads to (None for a table itself)."""
    path, found = name, None
    known = schema.tables[name].model.model_fields
    for part in loc:
        if isinstance(part, int):
            path += f"[{part}]"
            continue
        path += f".{part}"
        found = known.get(part)
        known = _fields(found.annotation) if found else {}
    return path, found


def _fields(annotation: Any) -> dict[str, FieldInfo]:
    """Return the fields of the table in an annotation (``Hub``, ``tuple[User, ...]``); empty for other types."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation.model_fields
    return next((fields for argument in get_args(annotation) if (fields := _fields(argument))), {})


def is_secret(field: FieldInfo) -> bool:
    """Whether a field's value must not be shown."""

    def within(annotation: Any) -> Iterator[Any]:
        yield from getattr(annotation, "__metadata__", ())
        if get_origin(annotation) in (Union, UnionType, tuple) or hasattr(annotation, "__metadata__"):
            for argument in get_args(annotation):
                yield from within(argument)

    return any(isinstance(mark, Secret) for mark in (*field.metadata, *within(field.annotation)))


def _shown(value: Any, field: FieldInfo | None) -> str | None:
    """Return a value for the operator's messages if it is short, scalar and no secret, else None."""
    if isinstance(value, list | dict) or (field and is_secret(field)):
        return None
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, str | bool) else str(value)
    return text if len(text) <= 80 else None


def _value(raw: Any, path: str) -> Any:
    for part in re.findall(r"[^.\[\]]+", path):
        try:
            raw = raw[int(part)] if isinstance(raw, list) else raw[part]
        except (KeyError, IndexError, ValueError, TypeError):
            return None
    return raw


def _found(key: str, what: str, raw: Mapping[str, Any], schema: Schema) -> Problem:
    """Convert a rule's finding to a problem with the value that it is about."""
    value = _value(raw, key)
    loc = tuple(int(p) if p.isdigit() else p for p in re.findall(r"[^.\[\]]+", key))
    _, field = _walk(str(loc[0]), loc[1:], schema)
    return Problem(key, what, value=None if value is None else _shown(value, field))


def _unknown(path: str, schema: Schema, known: Mapping[str, Any] | None = None) -> Problem:
    """Return the problem of an unknown table or key.

    :param known: known keys of the table; None for an unknown table.
    """
    kind = "table" if known is None else "key"
    known = schema.tables if known is None else known
    if images := schema.elsewhere.get(re.sub(r"\[\d+\]", "", path)):
        others = f"the image {images[0]} does" if len(images) == 1 else f"the images {' and '.join(images)} do"
        return Problem(path, f"no module of the image {schema.image} reads this {kind}; {others}")
    if near := closest(path.rpartition(".")[2], known):
        return Problem(path, f"unknown {kind}; did you mean `{near}`?")
    return Problem(path, f"unknown {kind}: this image has no module for it", hint=f"known: {', '.join(known)}")


def _stray(key: str, schema: Schema) -> Problem:
    """Return the problem of a key above the first table."""
    homes = [table.title for table in schema.tables.values() if key in table.model.model_fields]
    return Problem(key, "a key outside of any table" + (f"; it belongs under `{homes[0]}`" if homes else ""))


def _problem(name: str, detail: ErrorDetails, raw: Mapping[str, Any], schema: Schema) -> Problem:
    path, field = _walk(name, detail["loc"], schema)
    if detail["type"] == "extra_forbidden":
        owner = _walk(name, detail["loc"][:-1], schema)[1]
        return _unknown(path, schema, _fields(owner.annotation) if owner else schema.tables[name].model.model_fields)
    got = TOML_TYPES.get(type(detail["input"]), "a date or time")
    words = {name: _bound(value, field) for name, value in detail.get("ctx", {}).items()}
    words |= {"got": got, "expected": str(words.get("expected", "")).replace("'", '"')}
    sentence = SENTENCES.get(detail["type"])
    what = sentence.format(**words) if sentence else detail["msg"][0].lower() + detail["msg"][1:]
    if path == name and schema.tables[name].many and isinstance(raw[name], dict):
        what = f"each {name.removesuffix('s')} is a table of a list: write `[[{name}]]`, with two brackets"
    value = None if detail["type"] == "missing" else _shown(_value(raw, path), field)
    return Problem(path, what, value=value)


def _bound(value: Any, field: FieldInfo | None) -> Any:
    """Return a limit as it is written in the file."""
    labels = [mark.text for mark in field.metadata if isinstance(mark, Label)] if field else []
    if "size" in labels and isinstance(value, int):
        return format_size(value)
    if "duration" in labels and isinstance(value, int):
        return format_duration(value)
    return value
