"""Facts about the Swarm, which the spawner's module provides."""

from __future__ import annotations

from typing import Protocol

from hubsmith.settings.tables import Findings, fact, rule

#: Whether notebook servers run in the Swarm, and whether they may also run on this machine.
SWARM = fact("swarm", default=False)
ON_MASTER = fact("swarm_on_master", default=False)


class Cluster(Protocol):
    """The keys of the module `swarm-cluster` that this module reads."""

    manager: str | None


@rule("cluster")
def a_master_has_no_manager(cluster: Cluster) -> Findings:
    if cluster.manager is not None:
        yield "cluster.manager", "is for workers only, and this image is a master"
