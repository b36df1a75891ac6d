"""Service that lets the deployment's machines join the Swarm: gives them the join token and the homes' address."""

from __future__ import annotations

import json
from pathlib import Path

from hubsmith.guest.programs import Failed
from hubsmith_docker import engine
from hubsmith_swarm_cluster.protocol import ANSWER, PORT, NodeRequest, Refused, Server

SETTINGS, SWARM_FILE = Path("/run/hubsmith/join.json"), Path("/run/hubsmith/swarm.json")


def docker(*words: str) -> str:
    return engine.docker(*words, timeout=ANSWER)


def nodes() -> list[tuple[str, str, str]]:
    """Return ID, name and status of all nodes except this one."""
    rows = docker("node", "ls", "--format", "{{.ID}} {{.Hostname}} {{.Status}} {{.Self}}").splitlines()
    found = (row.split() for row in rows)
    return [(node, name, status) for node, name, status, itself in found if itself != "true"]


def join(request: NodeRequest, address: str) -> dict[str, str]:
    """Return what a machine needs to join, and remove the node of an earlier machine with the same name.

    :raises Refused: the Swarm is not ready yet.
    """
    here = engine.swarm_state(patience=0, timeout=ANSWER)
    cluster = (here.get("Cluster") or {}).get("ID")
    if here["LocalNodeState"] != "active" or not here["ControlAvailable"] or not cluster:
        raise Refused("the Swarm is not ready yet")
    for node, name, status in nodes():
        if (
            name == request.name and node != request.node and status == "Down"
        ):  # the machine before it, which was replaced
            docker("node", "rm", "--force", node)
            print(f"{name}: removed the node of the earlier machine", flush=True)
    if not request.node:
        print(f"{request.name}: admitted", flush=True)
    return {
        "token": docker("swarm", "join-token", "--quiet", "worker"),
        "manager": f"{address}:2377",
        "cluster": cluster,
        "homes": f"{address}:/home",
    }


def leave(request: NodeRequest) -> dict[str, str]:
    """Remove the node of a machine that is being switched off, so that its servers restart elsewhere at once."""
    if request.node in (node for node, name, _ in nodes() if name == request.name):
        docker("node", "rm", "--force", request.node)
        print(f"{request.name}: has left", flush=True)
    return {}


def main() -> None:
    settings, address = json.loads(SETTINGS.read_text()), json.loads(SWARM_FILE.read_text())["address"]

    def answer(request: NodeRequest) -> dict[str, str]:
        try:
            return leave(request) if request.what == "leave" else join(request, address)
        except Failed as error:
            raise Refused(f"the engine reports: {str(error)[:200]}") from error

    server = Server((address, PORT), settings["secret"], settings["key"], answer, lambda line: print(line, flush=True))
    print(f"waiting for machines at {address}:{PORT}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
