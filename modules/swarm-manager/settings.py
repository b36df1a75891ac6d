"""Whether there is a Swarm: the spawner decides."""

from __future__ import annotations

from typing import Protocol

from hubsmith.settings.tables import Findings, fact, rule

#: Whether notebook servers run in the Swarm, and whether they may on this machine, too.
SWARM = fact("swarm", default=False)
ON_MASTER = fact("swarm_on_master", default=False)


class Cluster(Protocol):
    """What is read of the module cluster's table."""

    manager: str | None


@rule("cluster")
def a_master_has_no_manager(cluster: Cluster) -> Findings:
    if cluster.manager is not None:
        yield "cluster.manager", "makes these the settings of a worker, and this image is a master"
