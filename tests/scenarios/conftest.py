"""Deployments of several machines, made as an operator makes them."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli_w

# The clients of the tests of one machine, and what is beside this file.
sys.path.insert(0, str(Path(__file__).parents[1] / "vm"))
sys.path.insert(0, str(Path(__file__).parent))

from workshop import Workshop, hubsmith

from hubsmith.deploy.fleet import Fleet


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[Workshop]:
    """The deployment of ``hosts/workshop-swarm.toml``, with time for an emulated processor and a small home."""
    content: dict[str, Any] = tomllib.loads((pytestconfig.rootpath / "hosts/workshop-swarm.toml").read_text())
    settings = content["hosts"]["master"]["settings"]
    settings["spawner"] |= {"start_timeout": "15m"}
    settings["metrics"] = {"allow": [content["network"]["cidr"]]}
    next(user for user in settings["users"] if user["name"] == "student2")["quota"] = "32M"
    folder = tmp_path_factory.mktemp("workshop")
    file = folder / "hosts" / "workshop.toml"
    file.parent.mkdir()
    file.write_text(tomli_w.dumps(content))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HUBSMITH_STATE", str(folder / "state"))
        try:
            hubsmith("up", file)
            yield Workshop(Fleet(pytestconfig.rootpath, file))
        finally:
            hubsmith("down", file, "--delete")
