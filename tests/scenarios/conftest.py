"""Deployments of several machines, made as an operator makes them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from browser_fixtures import browser  # noqa: F401  (fixtures)
from workshop import Workshop, deployment, shipped


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[Workshop]:
    """The deployment of ``hosts/workshop-swarm.toml``, with a small home for one and figures for Prometheus.

    It ends with the tests of its file: also at rest it would take half of the time of those that come after.
    """
    content = shipped(pytestconfig.rootpath)
    settings = content["hosts"]["master"]["settings"]
    settings["metrics"] = {"allow": [content["network"]["cidr"]]}
    next(user for user in settings["users"] if user["name"] == "student2")["quota"] = "32M"
    with deployment(pytestconfig.rootpath, tmp_path_factory.mktemp("workshop"), content) as workshop:
        yield workshop


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[Workshop]:
    """The same for thirty students, who may all start at once, with little memory each."""
    content = shipped(pytestconfig.rootpath)
    settings = content["hosts"]["master"]["settings"]
    settings["hub"]["concurrent_spawn_limit"] = 30
    settings["spawner"] |= {"memory": "192M", "cpu": 0.1}
    settings["users"] = [{"name": "teacher"}, *({"name": f"student{number}"} for number in range(1, 30))]
    content["hosts"]["worker"]["memory_mb"] = 4096
    with deployment(pytestconfig.rootpath, tmp_path_factory.mktemp("crowd"), content) as workshop:
        yield workshop
