"""Networks of the containers."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Protocol

from hubsmith.settings.tables import Findings, fact, rule

#: Where the engine takes its networks from (`daemon.json`, and `POOL` of the module swarm-manager).
CONTAINERS = ("10.128.0.0/10", "172.20.0.0/14")
FACT = fact("container_networks", default=CONTAINERS)


class Cluster(Protocol):
    """The keys of the module `swarm-cluster` that this module reads."""

    network: str | None


@rule("cluster")
def the_network_is_not_that_of_containers(cluster: Cluster) -> Findings:
    if cluster.network and any(ip_network(cluster.network).overlaps(ip_network(one)) for one in CONTAINERS):
        yield "cluster.network", f"overlaps with the networks of containers ({' and '.join(CONTAINERS)})"
