"""Schema of an image's settings, composed of the ``settings.py`` of its modules.

The order of the modules does not matter.
"""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, create_model
from pydantic.fields import FieldInfo

from hubsmith.errors import DefinitionError
from hubsmith.settings.tables import Choice, Fact, FromModules, Provider, Rule, Table


@dataclass(frozen=True)
class Part:
    """Declarations of one module's ``settings.py``."""

    file: Path
    tables: tuple[type[Table], ...] = ()
    rules: tuple[Rule, ...] = ()
    choices: tuple[Choice, ...] = ()
    facts: tuple[Fact, ...] = ()
    providers: tuple[Provider, ...] = ()

    @property
    def topic(self) -> str:
        """Name of the module."""
        return self.file.parent.name


@dataclass(frozen=True)
class Composed:
    """A table composed of the declarations of an image's modules.

    :ivar many: whether it is a list of ``[[name]]`` tables.
    :ivar topics: modules that declare it.
    """

    name: str
    model: type[Table]
    many: bool
    topics: tuple[str, ...]

    @property
    def annotation(self) -> Any:
        """Type of the table's value."""
        return tuple[self.model, ...] if self.many else self.model  # type: ignore[name-defined]

    @property
    def title(self) -> str:
        """Header of the table in TOML."""
        return f"[[{self.name}]]" if self.many else f"[{self.name}]"


@dataclass(frozen=True)
class Schema:
    """The tables of a settings file, and the rules and facts about them.

    :ivar image: name of the image; empty inside an appliance.
    :ivar elsewhere: other images that have a table or key (``users``, ``users.quota``), for errors about unknown keys.
    """

    tables: Mapping[str, Composed]
    rules: tuple[Rule, ...]
    facts: Mapping[str, Any]
    providers: tuple[Provider, ...]
    image: str = ""
    elsewhere: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def tables_of(self, rule: Rule) -> set[str]:
        """Return the tables that must be valid before a rule is checked."""
        of_facts = (provider.tables for provider in self.providers if provider.fact in rule.facts)
        return set(rule.tables).union(*of_facts)

    def facts_of(self, values: Mapping[str, Any], names: Container[str] | None = None) -> dict[str, Any]:
        """Compute facts of the image.

        :param values: validated value of each table that they depend on.
        :param names: facts to compute, by default all.
        :raises DefinitionError: two modules provide the same fact.
        """
        found: dict[str, Any] = {}
        by: dict[str, str] = {}
        for provider in self.providers:
            if names is not None and provider.fact not in names:
                continue
            if (value := provider.compute(*(values[name] for name in provider.tables))) is None:
                continue
            topic = Path(provider.compute.__code__.co_filename).parent.name
            if provider.fact in found:
                raise DefinitionError(
                    f"with these settings the modules {by[provider.fact]!r} and {topic!r} both provide the fact "
                    f"{provider.fact!r}: a rule of one of them must exclude it"
                )
            found[provider.fact], by[provider.fact] = value, topic
        return {**self.facts, **found}


def read_part(file: Path) -> Part:
    """Run a module's ``settings.py`` and return its declarations, in their order.

    :raises DefinitionError: the file cannot be run.
    """
    # The name cannot be imported, because one process may read several trees. Pydantic resolves a table's annotations
    # through `sys.modules`.
    name = f"settings of {file}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
        found = list(vars(module).values())
        tables = [one for one in found if isinstance(one, type) and issubclass(one, Table)]
        for one in tables:
            one.model_rebuild()  # an annotation that names nothing is an error here, not at the first use
    except Exception as error:
        what = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        raise DefinitionError(what, where=_place(error, file)) from error

    def of(kind: type[Any]) -> tuple[Any, ...]:
        return tuple(one for one in found if isinstance(one, kind))

    return Part(
        file, tuple(one for one in tables if one.declared), of(Rule), of(Choice), of(Fact), of(Provider)
    )  # fmt: skip


def _place(error: BaseException, file: Path) -> str:
    """Return the file and line in which an error was raised."""
    if isinstance(error, SyntaxError) and error.filename == str(file):
        return f"{_name(file)}:{error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    return f"{_name(file)}:{lines[-1]}" if lines else _name(file)


def _name(file: Path) -> str:
    """Return the file's name for error messages."""
    return f"modules/{file.parent.name}/{file.name}"


def read_parts(folder: Path, topics: Iterable[str] | None = None) -> list[Part]:
    """Return the declarations of the modules below ``folder``, in alphabetical order.

    :param topics: names of the modules; by default all.
    :raises DefinitionError: a ``settings.py`` cannot be run.
    """
    files = sorted(folder.glob("*/settings.py"))
    wanted = None if topics is None else set(topics)
    return [read_part(file) for file in files if wanted is None or file.parent.name in wanted]


def compose(parts: Iterable[Part]) -> Schema:
    """Compose the schema of an image.

    :param parts: declarations of its modules.
    :raises DefinitionError: declarations contradict each other, or refer to something that no module declares.
    """
    parts = sorted(parts, key=lambda part: part.topic)
    tables = _tables(parts)
    facts: dict[str, Any] = {}
    for part in parts:
        for one in part.facts:
            if one.name in facts:
                raise DefinitionError(f"another module declares the fact {one.name!r}, too", where=_name(part.file))
            facts[one.name] = one.default
    for part in parts:
        needed = [(rule.judge, rule.tables) for rule in part.rules]
        needed += [(provider.compute, provider.tables) for provider in part.providers]
        for function, names in needed:
            for name in names:
                if name not in tables:
                    what = f"no module of the image declares the table `{name}`"
                    raise DefinitionError(what, where=_where(part, function))
        used = [(name, rule.judge) for rule in part.rules for name in rule.facts]
        used += [(provider.fact, provider.compute) for provider in part.providers]
        for name, function in used:
            if name not in facts:
                what = f"no module of the image declares the fact {name!r}"
                raise DefinitionError(what, where=_where(part, function))
    return Schema(
        tables=tables,
        rules=tuple(rule for part in parts for rule in part.rules),
        facts=facts,
        providers=tuple(provider for part in parts for provider in part.providers),
    )


def _where(part: Part, function: Callable[..., Any]) -> str:
    return f"{_name(part.file)}:{function.__code__.co_firstlineno}"


def _tables(parts: list[Part]) -> dict[str, Composed]:
    declared: dict[str, list[tuple[Part, type[Table]]]] = {}
    for part in parts:
        for model in part.tables:
            assert model.declared
            declared.setdefault(model.declared[0], []).append((part, model))
    choices: dict[str, list[Choice]] = {}
    for part in parts:
        for one in part.choices:
            choices.setdefault(one.key, []).append(one)
    offered = {
        f"{name}.{key}"
        for name, pairs in declared.items()
        for _, model in pairs
        for key, info in model.model_fields.items()
        if _takes_choices(info)
    }
    for part in parts:
        for one in part.choices:
            if one.key not in offered:
                raise DefinitionError(f"no module of the image has choices for `{one.key}`", where=_name(part.file))
    return {name: _composed(name, declared[name], choices) for name in sorted(declared)}


def _takes_choices(info: FieldInfo) -> bool:
    return any(isinstance(mark, FromModules) for mark in info.metadata)


def _composed(name: str, declared: list[tuple[Part, type[Table]]], choices: Mapping[str, list[Choice]]) -> Composed:
    owner: dict[str, Part] = {}
    replaced: dict[str, Any] = {}
    many = {model.declared[1] for _, model in declared if model.declared}
    if len(many) > 1:
        raise DefinitionError(f"`{name}` is a table and a list of tables", where=_name(declared[-1][0].file))
    for part, model in declared:
        for key, info in model.model_fields.items():
            if key in owner:
                raise DefinitionError(
                    f"`{name}.{key}` is declared by the module {owner[key].topic!r}, too", where=_name(part.file)
                )
            owner[key] = part
            if _takes_choices(info):
                replaced[key] = _choice_field(f"{name}.{key}", info, choices, part)
    models = [model for _, model in declared]
    topics = tuple(part.topic for part, _ in declared)
    if len(models) == 1 and not replaced:
        return Composed(name, models[0], many.pop(), topics)
    # A subclass of all declarations, so that each rule gets the type that it expects. Fields are in the modules' order.
    text = " ".join(model.__doc__ for model in models if model.__doc__)
    made = create_model(name.capitalize(), __base__=tuple(reversed(models)), __doc__=text, **replaced)
    return Composed(name, made, many.pop(), topics)


def _choice_field(key: str, info: FieldInfo, choices: Mapping[str, list[Choice]], part: Part) -> tuple[Any, Any]:
    """Return type and field of a key whose values the image's modules declare."""
    found = choices.get(key, [])
    values = [one.value for one in found]
    if not found:
        raise DefinitionError(f"no module of the image brings a choice for `{key}`", where=_name(part.file))
    if len(set(values)) < len(values):
        raise DefinitionError(f"two modules bring the same choice for `{key}`", where=_name(part.file))
    chosen = values if len(values) == 1 else [one.value for one in found if one.default]
    if len(chosen) > 1:
        raise DefinitionError(f"two modules bring the default of `{key}`", where=_name(part.file))
    text = " ".join([*filter(None, [info.description]), *(f"`{one.value}`: {one.description}" for one in found)])
    default: Any = chosen[0] if chosen else ...  # without one, the key is required
    return Literal[tuple(values)], Field(default=default, description=text, examples=[values[-1]])


def keys_of(schema: Schema) -> Iterator[str]:
    """Yield every table and every key of a table: ``users``, ``users.name``."""
    for name, one in schema.tables.items():
        yield name
        yield from (f"{name}.{key}" for key in one.model.model_fields)
