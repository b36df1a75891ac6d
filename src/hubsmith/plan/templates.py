"""Check of an image's templates and of the settings tables that its modules read, so that mistakes show before a boot.

Each template is rendered for three cases: good settings with all defaults, good settings with every key set, and
rejected settings. In branches that none of these takes, names are looked up in the schema.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import jinja2
from jinja2 import nodes
from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from hubsmith.definition import Definition
from hubsmith.definition.load import problems_error
from hubsmith.definition.schemas import schema_of
from hubsmith.guest import secrets
from hubsmith.guest.modules import Module, Template, load_modules
from hubsmith.guest.outcome import Refused
from hubsmith.guest.render import context_for, environment, render
from hubsmith.settings.load import Settings
from hubsmith.settings.schema import Schema
from hubsmith.settings.tables import Table
from hubsmith.words import nearest

MACHINE = {"hostname": "hub", "addresses": ["192.0.2.1"], "public_ipv4": "", "memory": 4 * 1024**3, "cpus": 2}


def check(definition: Definition) -> None:
    """Check the modules of an image.

    :raises DefinitionError: a module reads a table that the image does not have, no module reads a table, or a template
        cannot be rendered.
    """
    schema = schema_of(definition)
    folder = definition.root / "modules"
    modules = {topic: module for topic, module in load_modules(folder).items() if topic in definition.modules}
    problems = [
        f"modules/{topic}/module.toml: settings.reads: no module of the image declares the table `{table}`; "
        f"{nearest(table, schema.tables)}"
        for topic, module in modules.items()
        for table in module.reads
        if table not in schema.tables
    ]
    # A hook that uses such a table would fail at boot.
    read = {table for module in modules.values() for table in module.reads}
    problems += [
        f"modules/{composed.topics[-1]}/settings.py: no module of the image reads the table `{name}`; "
        f"add it to `[settings] reads` in modules/{composed.topics[-1]}/module.toml"
        for name, composed in schema.tables.items()
        if name not in read
    ]
    if not problems:
        contexts = list(examples(schema, modules))
        for module in modules.values():
            for template in module.templates:
                seen = [context_for(module, one) for one in contexts]
                problems += _problems(template, seen, schema, definition.root)
    if problems:
        raise problems_error(problems, f"images/{definition.name}.toml")


def examples(schema: Schema, modules: Mapping[str, Module]) -> Iterator[dict[str, Any]]:
    """Yield example contexts of templates (:mod:`hubsmith.guest`). In the first, every key is set."""
    always = {
        "machine": MACHINE,
        "ports": [port for module in modules.values() for port in module.ports],
        "kept": [path for module in modules.values() for path in module.kept],
    }
    for settings in (_settings(schema, full=True), _settings(schema, full=False)):
        yield {
            **always, "state": "good", "settings": settings.plain(), "facts": settings.facts, "reasons": [],
            "secrets": dict.fromkeys(secrets.NAMES, "00"),
        }  # fmt: skip
    yield {**always, "state": "bad", "settings": None, "facts": schema.facts, "reasons": ["why"], "secrets": {}}


def _settings(schema: Schema, *, full: bool) -> Settings:
    """Return settings in which every key is set, or those of an empty file."""
    tables: dict[str, Any] = {}
    for name, one in schema.tables.items():
        value = _filled(one.model, full=full)
        tables[name] = value if not one.many else (value,) if full else ()
    return Settings(tables, schema.facts_of(tables))


def _filled(model: type[Table], *, full: bool) -> Table:
    """Return a table with example values for all keys, or for the required keys only."""
    return model.model_construct(
        **{key: _example(field) for key, field in model.model_fields.items() if full or field.is_required()}
    )


def _example(field: FieldInfo) -> Any:
    inner = get_args(field.annotation)[:1] if get_origin(field.annotation) is tuple else ()
    if inner and isinstance(inner[0], type) and issubclass(inner[0], Table):
        return (_filled(inner[0], full=True),)
    kind: Any = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
    example = field.examples[0] if field.examples else None
    try:
        return TypeAdapter(kind).validate_python(example)
    except ValidationError:  # examples of keys, certificates and hashes are abbreviated
        return tuple(example) if isinstance(example, list) else example


def _problems(template: Template, contexts: list[dict[str, Any]], schema: Schema, root: Path) -> list[str]:
    """Return the problems of a template.

    :param contexts: example contexts. In the first, every key is set.
    """
    where = os.path.relpath(template.source, root)
    try:
        tree = environment(template.source.parent).parse(template.source.read_text(encoding="utf-8"))
    except jinja2.TemplateSyntaxError as error:
        return [f"{where}:{error.lineno}: {error.message}"]
    if unknown := dict.fromkeys(_unknown(tree, contexts[0], schema)):
        return [f"{where}:{line}: {what}" for line, what in unknown]
    try:
        for context in contexts:
            if template.when in ("always", context["state"]):
                render(template, context)
    except Refused as error:
        return [error.reason.detail.replace(f"{root}/", "", 1)]
    return []


def _unknown(tree: nodes.Template, context: Mapping[str, Any], schema: Schema) -> Iterator[tuple[int, str]]:
    """Yield line and message for each unknown name below `settings`, `facts`, `secrets` and `machine`."""
    for node in tree.find_all(nodes.Getattr):
        path = [node.attr]
        inner: nodes.Node = node.node
        while isinstance(inner, nodes.Getattr):
            path.insert(0, inner.attr)
            inner = inner.node
        if not isinstance(inner, nodes.Name) or inner.name not in ("settings", "facts", "secrets", "machine"):
            continue
        found: Any = context[inner.name]
        for depth, name in enumerate(path):
            if not isinstance(found, dict):
                break
            if name not in found:
                unread = inner.name == "settings" and depth == 0 and name in schema.tables
                hint = "`[settings] reads` does not name the table" if unread else nearest(name, found)
                yield node.lineno, f"there is no {'.'.join([inner.name, *path[: depth + 1]])}; {hint}"
                break
            found = found[name]
