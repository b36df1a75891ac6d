"""Declarations of the image's modules that the guest needs.

The definition was validated when the image was built, so it is only read here.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: The same defaults as in the definition's model.
PORT_DEFAULTS = {"protocol": "tcp", "audience": "loopback"}


@dataclass(frozen=True)
class Template:
    """A file that every apply renders."""

    topic: str
    source: Path
    target: str
    mode: int
    owner: str
    group: str
    when: str
    reload: tuple[str, ...]
    restart: tuple[str, ...]


@dataclass(frozen=True)
class Module:
    """A module of the image: the settings tables that it reads, its templates, ports and kept state."""

    topic: str
    reads: tuple[str, ...]
    templates: tuple[Template, ...]
    ports: tuple[dict[str, Any], ...]
    kept: tuple[str, ...]


def _template(topic: str, folder: Path, raw: dict[str, Any]) -> Template:
    return Template(
        topic=topic,
        source=folder / "templates" / raw["source"],
        target=raw["target"],
        mode=int(raw.get("mode", "0644"), 8),
        owner=raw.get("owner", "root"),
        group=raw.get("group", "root"),
        when=raw.get("when", "good"),
        reload=tuple(raw.get("reload", ())),
        restart=tuple(raw.get("restart", ())),
    )


def load_modules(folder: Path) -> dict[str, Module]:
    """Return the modules below ``folder`` by topic, in alphabetical order."""
    modules = {}
    for file in sorted(folder.glob("*/module.toml")):
        raw = tomllib.loads(file.read_text())
        topic = file.parent.name
        modules[topic] = Module(
            topic=topic,
            reads=tuple(raw.get("settings", {}).get("reads", ())),
            templates=tuple(_template(topic, file.parent, t) for t in raw.get("templates", ())),
            ports=tuple({"topic": topic, **PORT_DEFAULTS, **port} for port in raw.get("ports", ())),
            kept=tuple(state["path"] for state in raw.get("state", ()) if state.get("keep", False)),
        )
    return modules
