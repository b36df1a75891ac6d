"""What a lock is made from: the part of a definition that the solvers see, and nothing else of it.

Of an image that extends another one it is also what Nix has to know of the result.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hubsmith import files
from hubsmith.definition import define, load_tools
from hubsmith.lock.models import Inherited

#: The name under which the toolchain is locked, next to the images.
TOOLS = "tools"

#: In every image root, as in debootstrap's "minbase" variant; essential and required packages come with it.
ALWAYS = ("apt",)


@dataclass(frozen=True)
class Inputs:
    """The lockable inputs of an image or of the toolchain."""

    name: str
    suite: str
    debian: tuple[str, ...]
    #: Whether the root holds all essential and required packages (an image) or only what is asked for (the tools).
    bootable: bool
    python: dict[str, list[str]]
    npm: dict[str, list[str]]
    #: Of an image that extends another one only.
    inherited: Inherited | None = None

    def json(self) -> dict[str, Any]:
        """As the value whose checksum a lock holds."""
        return {
            "suite": self.suite,
            "debian": list(self.debian),
            "bootable": self.bootable,
            "python": self.python,
            "npm": self.npm,
            **({"inherited": self.inherited.model_dump()} if self.inherited else {}),
        }

    @property
    def sha256(self) -> str:
        """The checksum that a lock made from these inputs holds."""
        return files.canonical_sha256(self.json())


def locks_of(root: Path, image: str) -> list[str]:
    """The names of all locks that an image is built from: the toolchain's, its container images', its own.

    :raises DefinitionError: the definition is wrong.
    """
    return [TOOLS] if image == TOOLS else [TOOLS, *define(root, image).image.image.containers, image]


def inputs_of(root: Path, name: str) -> Inputs:
    """The inputs of an image, or of the toolchain when the name is ``tools``.

    :raises DefinitionError: the definition is wrong.
    """
    if name == TOOLS:
        tools = load_tools(root).tools
        return Inputs(TOOLS, tools.suite, tuple(sorted(set(tools.debian))), False, {}, {})
    definition = define(root, name)
    image, debian = definition.image, tuple(sorted({*ALWAYS, *definition.debian}))
    inherited = Inherited(
        bases=list(definition.bases),
        suite=image.image.suite,
        containers=list(image.image.containers),
        container=image.container is not None,
    )
    return Inputs(
        name, image.image.suite, debian, True, definition.python, definition.npm,
        inherited if definition.bases else None,
    )  # fmt: skip
