"""How a module declares its settings: what ``modules/<topic>/settings.py`` is made of.

A table is a class, its keys are fields with type, default, example and description: the checks, the error messages and
``docs/operators/settings.md`` are made of them. Several modules may declare the same table: an image's table has the
fields of all of its modules. A module can add to a machine's settings, besides tables:

- :func:`rule`: what must hold between fields;
- :func:`choice`: a value of a :data:`Choices` field of another module, such as one more `spawner.kind`;
- :func:`fact` and :func:`provides`: what follows from the settings. The module that needs a fact declares it with
  its default, the module that knows better provides it. Templates and hooks get all facts of the image.

The sentences of checks and rules never repeat a value: some values are secrets, and the status page is public.
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

#: The key (``users[0].name``) and what is wrong with it.
Finding = tuple[str, str]
Findings = Iterator[Finding]


class Table(BaseModel):
    """A table of the settings: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    #: Name and whether it is a list, ``[[name]]``; set by :func:`table`.
    declared: ClassVar[tuple[str, bool] | None] = None


TableT = TypeVar("TableT", bound=Table)


def table(name: str, *, many: bool = False) -> Callable[[type[TableT]], type[TableT]]:
    """Declare a top-level table of the settings; its docstring is the table's description.

    :param many: each ``[[name]]`` is one of a list.
    """

    def declare(model: type[TableT]) -> type[TableT]:
        model.declared = (name, many)
        return model

    return declare


@dataclass(frozen=True)
class FromModules:
    """Marks a field whose values are the :func:`choice` of the image's modules."""


#: The type of such a field.
Choices = Annotated[str, Strict(), FromModules()]


@dataclass(frozen=True)
class Choice:
    """One value of a :data:`Choices` field."""

    key: str
    value: str
    description: str
    default: bool


def choice(key: str, value: str, description: str, *, default: bool = False) -> Choice:
    """Add a value to a :data:`Choices` field.

    :param key: table and field, such as ``spawner.kind``.
    :param default: it is meant when the key is left out; the only choice of an image always is.
    """
    return Choice(key, value, description, default)


@dataclass(frozen=True)
class Rule:
    """What must hold between fields; ``judge`` is called with the values of ``tables``, then those of ``facts``."""

    tables: tuple[str, ...]
    judge: Callable[..., Findings]
    facts: tuple[str, ...] = ()


def rule(*tables: str, facts: tuple[str, ...] = ()) -> Callable[[Callable[..., Findings]], Rule]:
    """Register a rule: it is judged when each of ``tables``, and those that ``facts`` follow from, are well-formed."""
    return lambda function: Rule(tables, function, facts)


@dataclass(frozen=True)
class Fact:
    """Something that follows from the settings, and what it is when no module knows better."""

    name: str
    default: Any


def fact(name: str, *, default: Any) -> Fact:
    """Declare a fact that this module needs. Facts hold no secrets: every module of the image sees them.

    :param name: unique in the image.
    """
    return Fact(name, default)


@dataclass(frozen=True)
class Provider:
    """Computes a fact; ``compute`` is called with the values of ``tables``, and None means nothing to say."""

    fact: str
    tables: tuple[str, ...]
    compute: Callable[..., Any]


def provides(fact: str, *tables: str) -> Callable[[Callable[..., Any]], Provider]:
    """Register a function that computes a fact from ``tables``; None: this module has nothing to say."""
    return lambda function: Provider(fact, tables, function)
