"""Manifests of the images of a tree."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hubsmith import files
from hubsmith.definition import define
from hubsmith.lock import inputs_of
from hubsmith.lock.files import LockChoice, load_matching, locate
from hubsmith.lock.inputs import TOOLS
from hubsmith.plan.manifest import make


def manifest_of(root: Path, name: str, *, refreshed: bool = False) -> dict[str, Any]:
    """Return the manifest of an image, which contains the checksums of its container images' manifests.

    :param refreshed: prefer refreshed locks over the committed ones.
    :raises DefinitionError: a definition is invalid.
    :raises LockError: a lock is missing or does not match.
    """
    return manifest_with(root, name, lambda one: locate(root, one, refreshed=refreshed))


def manifest_with(root: Path, name: str, choose: Callable[[str], LockChoice]) -> dict[str, Any]:
    """Return the manifest of an image, made with chosen locks.

    :param choose: returns the lock of an image, or of the toolchain.
    """
    definition, choice, tools = define(root, name), choose(name), choose(TOOLS).path
    containers = definition.image.image.containers
    return make(
        definition, load_matching(choice.path, inputs_of(root, name)),
        lock_sha256=files.sha256(choice.path), refreshed=choice.refreshed,
        tools_sha256=files.sha256(tools) if tools.is_file() else None,
        containers={one: files.canonical_sha256(manifest_with(root, one, choose)) for one in containers},
    )  # fmt: skip
