"""Inputs of a lock: the part of a definition that the solvers see.

For an image that extends another one, also what Nix has to know of the result.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hubsmith import files
from hubsmith.definition import define, load_tools
from hubsmith.lock.models import Inherited

#: Name of the toolchain's lock, next to those of the images.
TOOLS = "tools"

#: Packages of every image, besides essential and required ones, as in debootstrap's "minbase" variant.
ALWAYS = ("apt",)


@dataclass(frozen=True)
class Inputs:
    """Inputs of the lock of an image or of the toolchain.

    :ivar bootable: whether essential and required packages are added, as for an image, or not, as for the toolchain.
    """

    name: str
    suite: str
    debian: tuple[str, ...]
    bootable: bool
    python: dict[str, list[str]]
    npm: dict[str, list[str]]
    #: Of an image that extends another one only.
    inherited: Inherited | None = None

    def json(self) -> dict[str, Any]:
        """Return the value whose checksum is stored in a lock."""
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
        """SHA-256 (hex) that is stored in a lock made from these inputs."""
        return files.canonical_sha256(self.json())


def locks_of(root: Path, image: str) -> list[str]:
    """Return the names of all locks needed to build an image: toolchain, container images, image.

    :raises DefinitionError: the definition is invalid.
    """
    return [TOOLS] if image == TOOLS else [TOOLS, *define(root, image).image.image.containers, image]


def inputs_of(root: Path, name: str) -> Inputs:
    """Return the inputs of an image, or of the toolchain if the name is ``tools``.

    :raises DefinitionError: the definition is invalid.
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
