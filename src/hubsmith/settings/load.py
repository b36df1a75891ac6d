"""From a settings file to :class:`~hubsmith.settings.schema.Settings`, or to all of its problems at once."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from hubsmith.settings.errors import Problem, SettingsError
from hubsmith.settings.lines import key_lines, nearest_line
from hubsmith.settings.rules import judge
from hubsmith.settings.scalars import Label, Secret, format_duration, format_size
from hubsmith.settings.schema import Settings
from hubsmith.words import closest

#: Clouds take far less user-data (OpenStack: 64 KiB): anything larger is another file by mistake.
LARGEST_FILE = 1024 * 1024

#: What pydantic found, in our words: ``{name}`` is from the error's context.
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


def load(path: Path) -> Settings:
    """Read and check a settings file.

    :raises SettingsError: it is missing, unreadable, no TOML, or has bad values; all problems at once.
    """
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except FileNotFoundError:
        raise _failed(path, "the file does not exist; cloud-init writes it from user-data (`write_files`)") from None
    except OSError as error:
        raise _failed(path, f"cannot be read: {error.strerror}") from None
    return parse(data, str(path))


def parse(data: bytes, file: str) -> Settings:
    """Check the bytes of a settings file; ``file`` is its name in messages.

    :raises SettingsError: all problems at once.
    """
    text = _decode(data, file)
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(file, (_syntax_problem(error, text),)) from None
    except RecursionError:
        raise _failed(Path(file), "not TOML: nested too deeply") from None
    lines = key_lines(text)
    tables: dict[str, Any] = {}
    problems: list[Problem] = []
    for key in raw:
        if key not in Settings.model_fields:
            problems.append(_unknown(key, Settings.model_fields) if isinstance(raw[key], dict | list) else _stray(key))
    for name, field in Settings.model_fields.items():
        if name not in raw:
            tables[name] = field.get_default()
            continue
        try:
            annotation: Any = field.annotation
            tables[name] = TypeAdapter(annotation).validate_python(raw[name])
        except ValidationError as error:
            problems += (_problem(name, detail, raw) for detail in error.errors(include_url=False))
    problems += (_found(key, what, raw) for key, what in judge(tables))
    if problems:
        placed = [Problem(p.key, p.what, nearest_line(lines, p.key), p.value, p.hint) for p in problems]
        raise SettingsError(file, tuple(sorted(placed, key=lambda p: p.line or 0)))
    return Settings(**tables)


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
    # Keys may be repeated by the parser, values are not: they could be secrets.
    return Problem("", f"not TOML{column}: {message[0].lower() + message[1:]}", line)


def _walk(name: str, loc: tuple[int | str, ...]) -> tuple[str, FieldInfo | None]:
    """The key path in our writing, and the field of the schema that it leads to."""
    path, field = name, Settings.model_fields[name]
    found: FieldInfo | None = field
    for part in loc:
        if isinstance(part, int):
            path += f"[{part}]"
            continue
        path += f".{part}"
        found = _fields(found.annotation).get(part) if found else None
    return path, found


def _fields(annotation: Any) -> dict[str, FieldInfo]:
    """The fields of the table that an annotation (``Hub``, ``tuple[User, ...]``) leads to; none for other types."""
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
    """The value for the operator's eyes, when it is short, scalar and no secret."""
    if field is None or is_secret(field) or isinstance(value, list | dict):
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


def _found(key: str, what: str, raw: dict[str, Any]) -> Problem:
    """A rule's finding, with the value that it is about."""
    value = _value(raw, key)
    loc = tuple(int(p) if p.isdigit() else p for p in re.findall(r"[^.\[\]]+", key))
    _, field = _walk(str(loc[0]), loc[1:])
    return Problem(key, what, value=None if value is None else _shown(value, field))


def _unknown(path: str, known: dict[str, FieldInfo]) -> Problem:
    outer, _, key = path.rpartition(".")
    near = closest(key, known)
    kind = "key" if outer else "table"
    what = f"unknown {kind}" + (f"; did you mean `{near}`?" if near else "")
    return Problem(path, what, hint=f"known: {', '.join(known)}")


def _stray(key: str) -> Problem:
    """A key above the first table."""
    homes = [name for name, field in Settings.model_fields.items() if key in _fields(field.annotation)]
    return Problem(key, "a key outside of any table" + (f"; it belongs under `[{homes[0]}]`" if homes else ""))


def _problem(name: str, detail: ErrorDetails, raw: dict[str, Any]) -> Problem:
    path, field = _walk(name, detail["loc"])
    if detail["type"] == "extra_forbidden":
        owner = _walk(name, detail["loc"][:-1])[1]
        return _unknown(path, _fields(owner.annotation) if owner else {})
    got = TOML_TYPES.get(type(detail["input"]), "a date or time")
    words = {name: _bound(value, field) for name, value in detail.get("ctx", {}).items()}
    words |= {"got": got, "expected": str(words.get("expected", "")).replace("'", '"')}
    sentence = SENTENCES.get(detail["type"])
    what = sentence.format(**words) if sentence else detail["msg"][0].lower() + detail["msg"][1:]
    if path == "users" and isinstance(raw["users"], dict):
        what = "each user is a table of a list: write `[[users]]`, with two brackets"
    value = None if detail["type"] == "missing" else _shown(_value(raw, path), field)
    return Problem(path, what, value=value)


def _bound(value: Any, field: FieldInfo | None) -> Any:
    """A limit as it would be written in the file."""
    labels = [mark.text for mark in field.metadata if isinstance(mark, Label)] if field else []
    if "size" in labels and isinstance(value, int):
        return format_size(value)
    if "duration" in labels and isinstance(value, int):
        return format_duration(value)
    return value
