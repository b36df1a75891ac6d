"""Declarations for ``modules/<topic>/settings.py``: tables, rules, choices and facts.

A table is a class. Its keys are fields with type, default, example and description. Checks, error messages and
``docs/operators/settings.md`` are generated from them. If several modules declare the same table, the image's table has
the fields of all of them. Besides tables, a module can declare:

- :func:`rule`: a condition on several fields;
- :func:`choice`: a value of another module's :data:`Choices` field, such as one more `spawner.kind`;
- :func:`fact` and :func:`provides`: a value derived from the settings. The module that needs a fact declares it with a
  default, and another module may provide it. Templates and hooks get all facts of the image.

Messages of checks and rules never repeat a value: some values are secrets, and the status page is public.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, Field, Strict

__all__ = [
    "Choice", "Choices", "Fact", "Field", "Finding", "Findings", "FromModules", "Provider", "Rule", "Table", "choice",
    "fact", "provides", "rule", "table",
]  # fmt: skip

#: Key path (``users[0].name``) and what is wrong there.
Finding = tuple[str, str]
Findings = Iterator[Finding]


class Table(BaseModel):
    """Base class of the settings' tables. Instances are frozen, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    #: Name and whether it is a list, ``[[name]]``; set by :func:`table`.
    declared: ClassVar[tuple[str, bool] | None] = None


TableT = TypeVar("TableT", bound=Table)


def table(name: str, *, many: bool = False) -> Callable[[type[TableT]], type[TableT]]:
    """Declare a class as a top-level table of the settings. Its docstring is the table's description.

    :param many: the table is a list of ``[[name]]`` tables.
    """

    def declare(model: type[TableT]) -> type[TableT]:
        model.declared = (name, many)
        return model

    return declare


@dataclass(frozen=True)
class FromModules:
    """Marks a field whose possible values the image's modules declare with :func:`choice`."""


#: Type of a field whose values the image's modules declare.
Choices = Annotated[str, Strict(), FromModules()]


@dataclass(frozen=True)
class Choice:
    """A possible value of a :data:`Choices` field."""

    key: str
    value: str
    description: str
    default: bool


def choice(key: str, value: str, description: str, *, default: bool = False) -> Choice:
    """Declare a possible value of a :data:`Choices` field.

    :param key: table and field, such as ``spawner.kind``.
    :param default: this is the field's default. The only choice of an image is always the default.
    """
    return Choice(key, value, description, default)


@dataclass(frozen=True)
class Rule:
    """A condition on several fields.

    ``judge`` is called with the values of ``tables``, then those of ``facts``, and yields the violations.
    """

    tables: tuple[str, ...]
    judge: Callable[..., Findings]
    facts: tuple[str, ...] = ()


def rule(*tables: str, facts: tuple[str, ...] = ()) -> Callable[[Callable[..., Findings]], Rule]:
    """Declare a function as a rule. It is called if ``tables``, and those that ``facts`` depend on, are valid."""
    return lambda function: Rule(tables, function, facts)


@dataclass(frozen=True)
class Fact:
    """A value derived from the settings, with the default for the case that no module provides it."""

    name: str
    default: Any


def fact(name: str, *, default: Any) -> Fact:
    """Declare a fact that this module needs. Facts must not contain secrets: every module of the image sees them.

    :param name: name, unique in the image.
    """
    return Fact(name, default)


@dataclass(frozen=True)
class Provider:
    """Function that computes a fact from the values of ``tables``. None means that it does not provide the fact."""

    fact: str
    tables: tuple[str, ...]
    compute: Callable[..., Any]


def provides(fact: str, *tables: str) -> Callable[[Callable[..., Any]], Provider]:
    """Declare a function that computes a fact from ``tables``. It may return None to not provide the fact."""
    return lambda function: Provider(fact, tables, function)
