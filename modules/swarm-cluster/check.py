"""Checks of every machine of a deployment of several machines: what its network must guarantee, as far as one sees."""

from __future__ import annotations

import json
import tomllib
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

Host = Any


@pytest.fixture
def cluster(host: Host) -> dict[str, Any]:
    """Return the table `cluster` of the settings; skip the check if it has no network."""
    found: dict[str, Any] = tomllib.loads(host.file("/etc/hubsmith/settings.toml").content_string).get("cluster", {})
    if "network" not in found:
        pytest.skip("no cluster")
    return found


def peers(host: Host, cluster: dict[str, Any]) -> list[str]:
    """Return the addresses of the machines that this one talks to."""
    if cluster.get("manager"):
        return [str(cluster["manager"])]
    file = host.file("/var/lib/hubsmith/kept/cluster.json")
    return list(json.loads(file.content_string)["addresses"]) if file.exists else []


def test_peers_are_on_the_link_of_the_cluster_s_network(host: Host, cluster: dict[str, Any]) -> None:
    if not (others := peers(host, cluster)):
        pytest.skip("no other machine has been here")
    for peer in others:
        (route,) = json.loads(host.check_output("ip -json route get %s", peer))
        assert ip_address(route["prefsrc"]) in ip_network(cluster["network"]), route
        # A router between them could read and change everything.
        assert "gateway" not in route, route


def test_packets_with_a_peer_s_address_come_by_its_link_only(host: Host, cluster: dict[str, Any]) -> None:
    rules = [line.strip() for line in host.check_output("nft list chain inet hubsmith peers").splitlines()]
    first = next(index for index, line in enumerate(rules) if line.startswith(f"ip saddr {cluster['network']}"))
    assert "fib saddr . iif oif missing drop" in rules[first]
