"""The models of `hosts/*.toml`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from hubsmith.definition.load import load
from hubsmith.definition.models import Slug, Strict


class Head(Strict):
    """The `[deployment]` table."""

    name: Slug
    target: Literal["qemu"] = "qemu"


class Host(Strict):
    """A `[hosts.<name>]` table; `settings` is the machine's settings.toml, checked when it is brought up."""

    image: Slug
    memory_mb: int = Field(default=3072, ge=1024)
    cpus: int = Field(default=2, ge=1)
    disk_gb: int = Field(default=20, ge=4)
    firmware: Literal["uefi", "bios"] = "uefi"
    settings: dict[str, Any] = Field(default_factory=dict)


class Deployment(Strict):
    """A whole `hosts/*.toml`."""

    deployment: Head
    hosts: dict[Slug, Host] = Field(min_length=1)


def load_deployment(path: Path) -> Deployment:
    """Read a deployment.

    :raises DefinitionError: the file is missing or wrong; all problems are listed.
    """
    path = path.resolve()
    return load(Deployment, path, path.parent.parent)
