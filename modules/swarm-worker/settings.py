"""Required settings of a worker."""

from __future__ import annotations

from typing import Protocol

from hubsmith.settings.tables import Findings, rule


class Cluster(Protocol):
    """The keys of the module `swarm-cluster` that this module reads."""

    manager: str | None


@rule("cluster")
def a_worker_has_a_manager(cluster: Cluster) -> Findings:
    if cluster.manager is None:
        yield "cluster.manager", "needed by a worker: the address of the master in `cluster.network`"
