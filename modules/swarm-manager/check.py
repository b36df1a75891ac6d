"""Checks of every machine that can be a Swarm manager."""

from __future__ import annotations

import json
import tomllib
from typing import Any

import pytest

Host = Any


@pytest.fixture
def settings(host: Host) -> dict[str, Any]:
    """Return the settings; skip the check if the machine is no Swarm manager."""
    if not host.service("hubsmith-join").is_running:
        pytest.skip("spawner.kind is not swarm")
    return tomllib.loads(host.file("/etc/hubsmith/settings.toml").content_string)


def test_it_leads_and_runs_servers_only_when_it_may(host: Host, settings: dict[str, Any]) -> None:
    node = json.loads(host.check_output("docker node inspect self"))[0]
    assert node["ManagerStatus"]["Leader"]
    # The node must not be drained, or the hub's container could not be on the users' networks.
    running = host.check_output("docker node ps self --filter desired-state=running --format '{{.Name}}'").splitlines()
    facts = json.loads(host.file("/run/hubsmith/facts.json").content_string)
    assert running == [] or facts["swarm_on_master"]


def test_workers_ask_at_the_private_address_only(host: Host) -> None:
    if not host.service("hubsmith-join").is_running:
        pytest.skip("spawner.kind is not swarm")
    address = json.loads(host.check_output("docker info --format '{{json .Swarm}}'"))["NodeAddr"]
    for port in (2377, 2378):
        listening = host.check_output(f"ss --no-header --listening --numeric --tcp 'sport = :{port}'").splitlines()
        assert [line.split()[3] for line in listening] == [f"{address}:{port}"]


def test_the_hub_is_at_its_place_and_on_no_port_of_the_machine(host: Host, settings: dict[str, Any]) -> None:
    assert host.run("ss --no-header --listening --numeric --tcp 'sport = :881'").stdout == ""
    inside = "nsenter --net=/run/hubsmith/place"
    assert ":881" in host.check_output(f"{inside} ss --no-header --listening --numeric --tcp")
    # The container is on the users' networks and reaches nothing else.
    assert host.run(f"{inside} curl --silent --max-time 3 http://1.1.1.1/").rc in (7, 28)


def test_members_alone_reach_the_homes_and_the_swarm(host: Host, settings: dict[str, Any]) -> None:
    rules = host.check_output("nft list table ip hubsmith_members")
    for port in ("tcp dport 2049", "tcp dport 2377", "tcp dport 7946", "udp dport 7946", "udp dport 4789"):
        assert f'iifname != "lo" ip saddr != @members {port} drop' in rules
    kept = host.file("/var/lib/hubsmith/kept/cluster.json")
    assert (kept.user, kept.mode) == ("root", 0o600)
    assert settings["cluster"]["secret"] not in kept.content_string
    nodes = json.loads(host.check_output("docker node inspect $(docker node ls --quiet)"))
    workers = {node["Status"]["Addr"] for node in nodes if node["Spec"]["Role"] == "worker"}
    assert workers <= set(json.loads(kept.content_string)["addresses"])


def test_secrets_of_the_cluster_are_roots_alone(host: Host, settings: dict[str, Any]) -> None:
    file = host.file("/run/hubsmith/join.json")
    assert (file.user, file.mode) == ("root", 0o600)
    seen = host.check_output("ps -e -ww -o args=") + host.check_output("journalctl --boot --no-pager --output=verbose")
    assert settings["cluster"]["secret"] not in seen
    assert host.check_output("docker swarm join-token --quiet worker") not in seen
