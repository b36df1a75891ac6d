"""What a worker must be told."""

from __future__ import annotations

from typing import Protocol

from hubsmith.settings.tables import Findings, rule


class Cluster(Protocol):
    """What is read of the module cluster's table."""

    manager: str | None


@rule("cluster")
def a_worker_has_a_manager(cluster: Cluster) -> Findings:
    if cluster.manager is None:
        yield "cluster.manager", "needed by a worker: the address of the master in `cluster.network`"
