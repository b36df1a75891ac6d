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


class Volume(Strict):
    """A `[[hosts.<name>.volumes]]` table: a further disk, blank at first."""

    name: Slug
    size_gb: int = Field(ge=1)


class Host(Strict):
    """A `[hosts.<name>]` table.

    `settings` is the machine's settings.toml, checked when it is brought up. `https_port` and `ssh_port` are ports of
    this computer's 127.0.0.1; without them free ones are chosen, which stay as long as the machine runs.
    """

    image: Slug
    count: int = Field(default=1, ge=1, le=50)
    memory_mb: int = Field(default=3072, ge=1024)
    cpus: int = Field(default=2, ge=1)
    disk_gb: int = Field(default=20, ge=4)
    firmware: Literal["uefi", "bios"] = "uefi"
    volumes: tuple[Volume, ...] = ()
    https_port: int | None = Field(default=None, ge=1, le=65535)
    ssh_port: int | None = Field(default=None, ge=1, le=65535)
    settings: dict[str, Any] = Field(default_factory=dict)


class Deployment(Strict):
    """A whole `hosts/*.toml`."""

    deployment: Head
    hosts: dict[Slug, Host] = Field(min_length=1)

    def machines(self) -> dict[str, Host]:
        """Every machine by name: `hub`, or `worker-1`, `worker-2`, … for a host with a count."""
        found: dict[str, Host] = {}
        for name, host in self.hosts.items():
            found |= {name if host.count == 1 else f"{name}-{number + 1}": host for number in range(host.count)}
        return found


def load_deployment(path: Path) -> Deployment:
    """Read a deployment.

    :raises DefinitionError: the file is missing or wrong; all problems are listed.
    """
    path = path.resolve()
    return load(Deployment, path, path.parent.parent)
