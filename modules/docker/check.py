"""Checks of every machine whose settings need a container engine."""

from __future__ import annotations

import json
from typing import Any

import pytest

Host = Any


@pytest.fixture
def info(host: Host) -> dict[str, Any]:
    """Return the engine's information about itself."""
    if not host.service("docker").is_running:
        pytest.skip("no cluster: the engine is off")
    found: dict[str, Any] = json.loads(host.check_output("docker info --format '{{json .}}'"))
    return found


def test_only_root_reaches_the_engine(host: Host, info: dict[str, Any]) -> None:
    socket = host.file("/run/docker.sock")
    assert (socket.user, socket.mode) == ("root", 0o660)
    assert host.group(socket.group).members == []
    assert "docker.sock" in host.check_output("ss --no-header --listening --unix --processes | grep dockerd")
    assert "dockerd" not in host.check_output(
        "ss --no-header --listening --tcp --processes 'sport != :7946 and sport != :2377'"
    )


def test_containers_are_confined(info: dict[str, Any]) -> None:
    options = " ".join(info["SecurityOptions"])
    for wanted in ("apparmor", "seccomp", "no-new-privileges", "cgroupns"):
        assert f"name={wanted}" in options
    assert info["Swarm"]["LocalNodeState"] == "active"
    assert info["Driver"] == "overlay2"


def test_containers_reach_no_port_of_the_machine(host: Host, info: dict[str, Any]) -> None:
    rules = host.check_output("nft list chain inet hubsmith input")
    first = next(line for line in rules.splitlines() if "docker_gwbridge" in line)
    assert "drop" in first
    assert rules.index(first) < rules.index("established")
    assert "policy drop" in host.check_output("nft list chain inet hubsmith forward")
