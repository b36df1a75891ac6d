"""Models of `hosts/*.toml`."""

from __future__ import annotations

import graphlib
import ipaddress
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from hubsmith.definition.load import load, read
from hubsmith.definition.models import Slug, Strict
from hubsmith.errors import DefinitionError
from hubsmith.settings.errors import SettingsError
from hubsmith.settings.lines import key_lines, nearest_line
from hubsmith.words import nearest


class Head(Strict):
    """The `[deployment]` table."""

    name: Slug
    target: Literal["qemu"] = "qemu"


class Volume(Strict):
    """A `[[hosts.<name>.volumes]]` table: an additional disk, initially blank."""

    name: Slug
    size_gb: int = Field(ge=1)


class Network(Strict):
    """The `[network]` table: a private network of all machines, in addition to each machine's outside connection.

    `mtu` is in bytes. The default is that of OpenStack's overlay networks.
    """

    cidr: str = "10.77.0.0/24"
    mtu: int = Field(default=1450, ge=1280, le=9000)

    @field_validator("cidr")
    @classmethod
    def _is_a_network(cls, text: str) -> str:
        network = ipaddress.IPv4Network(text)
        if not network.is_private or network.prefixlen > 28:
            raise ValueError("a private IPv4 network of at least 16 addresses is needed")
        return text


class Host(Strict):
    """A `[hosts.<name>]` table.

    Without `count` the host is one machine with the host's name. With `count`, even 1, its machines are numbered from
    1. `needs` names hosts that must be ready before this one is started.

    `settings` is the machine's settings.toml. It is checked before the machine is brought up. `settings_from` names
    files with further settings, relative to this file. Their lists (`[[users]]`) are appended; no key may be in two
    places. `https_port` and `ssh_port` are ports on this computer's 127.0.0.1. By default free ports are chosen, which
    stay the same as long as the machine runs.
    """

    image: Slug
    count: int | None = Field(default=None, ge=1, le=50)
    needs: tuple[Slug, ...] = ()
    memory_mb: int = Field(default=3072, ge=1024)
    cpus: int = Field(default=2, ge=1)
    disk_gb: int = Field(default=20, ge=4)
    firmware: Literal["uefi", "bios"] = "uefi"
    volumes: tuple[Volume, ...] = ()
    https_port: int | None = Field(default=None, ge=1, le=65535)
    ssh_port: int | None = Field(default=None, ge=1, le=65535)
    settings_from: tuple[str, ...] = ()
    settings: dict[str, Any] = Field(default_factory=dict)


class Deployment(Strict):
    """A `hosts/*.toml` file."""

    deployment: Head
    network: Network | None = None
    hosts: dict[Slug, Host] = Field(min_length=1)

    @model_validator(mode="after")
    def _has_an_order(self) -> Deployment:
        for name, host in self.hosts.items():
            for other in host.needs:
                if other not in self.hosts:
                    raise ValueError(f"hosts.{name}.needs: no host {other!r}; {nearest(other, self.hosts)}")
        try:
            self.waves()
        except graphlib.CycleError as error:
            raise ValueError(f"hosts need each other: {' → '.join(reversed(error.args[1]))}") from None
        return self

    def waves(self) -> list[list[str]]:
        """Return the hosts in start order. Hosts of one inner list start together."""
        order = graphlib.TopologicalSorter({name: host.needs for name, host in self.hosts.items()})
        order.prepare()
        waves = []
        while order.is_active():
            ready = order.get_ready()
            waves.append([name for name in self.hosts if name in ready])
            order.done(*ready)
        return waves

    def machines(self, counts: Mapping[str, int] | None = None) -> dict[str, str]:
        """Return the host of each machine: `hub`, or `worker-1`, `worker-2`, … for a host with a count.

        :param counts: counts that replace the file's (`hubsmith scale`).
        """
        found: dict[str, str] = {}
        for name in (name for wave in self.waves() for name in wave):
            count = self.hosts[name].count
            if count is None:
                found[name] = name
            else:
                number = (counts or {}).get(name, count)
                found |= {f"{name}-{one + 1}": name for one in range(number)}
        return found


def load_deployment(path: Path) -> Deployment:
    """Read a deployment's file.

    :raises DefinitionError: the file is missing or invalid; all problems are listed.
    """
    path = path.resolve()
    deployment = load(Deployment, path, path.parent.parent)
    for name, host in deployment.hosts.items():
        for more in host.settings_from:
            add(host.settings, read(path.parent / more, path.parent), f"hosts.{name}.settings_from {more}")
    return deployment


def add(settings: dict[str, Any], more: Mapping[str, Any], where: str) -> None:
    """Merge further settings into a host's settings, in place.

    :raises DefinitionError: a key already has a value.
    """
    for key, value in more.items():
        here = settings.setdefault(key, type(value)() if isinstance(value, dict | list) else value)
        if isinstance(here, dict) and isinstance(value, dict):
            add(here, value, f"{where}: {key}")
        elif isinstance(here, list | tuple) and isinstance(value, list):
            settings[key] = [*here, *value]
        elif here is not value:
            raise DefinitionError(f"{key} has a value already", where=where)


def located(error: SettingsError, file: Path, host: str) -> SettingsError:
    """Return an error about a machine's settings with the keys and lines of the hosts file.

    :param file: hosts file.
    :param host: the machine's host.
    """
    lines, table = key_lines(file.read_text(encoding="utf-8")), f"hosts.{host}.settings"
    keys = [f"{table}.{one.key}" if one.key else table for one in error.problems]
    problems = [
        replace(one, key=key, line=nearest_line(lines, key)) for one, key in zip(error.problems, keys, strict=True)
    ]
    return SettingsError(str(file), tuple(sorted(problems, key=lambda one: one.line or 0)))
