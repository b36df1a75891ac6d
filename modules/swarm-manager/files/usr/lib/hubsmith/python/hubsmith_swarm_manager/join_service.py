"""Service that lets the deployment's machines join the Swarm: gives them the join token and the homes' address.

The firewall opens the manager's other ports to machines that have asked here. A machine acts for the address that it
asks from only, so that one that has the secret cannot remove another one's node.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from hubsmith.guest.programs import Failed
from hubsmith_docker import engine
from hubsmith_swarm_cluster.protocol import ANSWER, PORT, NodeRequest, Refused, Server
from hubsmith_swarm_manager.members import Members

SETTINGS, SWARM_FILE = Path("/run/hubsmith/join.json"), Path("/run/hubsmith/swarm.json")


class Node(NamedTuple):
    """A worker in the Swarm.

    :ivar state: `ready`, `down`, …
    :ivar address: as the manager sees it; empty if the node was never connected.
    """

    id: str
    name: str
    state: str
    address: str


def docker(*words: str) -> str:
    return engine.docker(*words, timeout=ANSWER)


def workers() -> list[Node]:
    """Return all nodes except this one, which is the only manager."""
    ids = docker("node", "ls", "--quiet", "--filter", "role=worker").split()
    return [
        Node(one["ID"], one["Description"].get("Hostname", ""), one["Status"]["State"], one["Status"].get("Addr", ""))
        for one in (json.loads(docker("node", "inspect", *ids)) if ids else ())
    ]


def remove(node: Node, why: str) -> None:
    docker("node", "rm", "--force", node.id)
    print(f"{node.name} ({node.address}): removed its node: {why}", flush=True)


def join(request: NodeRequest, address: str, manager: str, members: Members) -> dict[str, str]:
    """Admit a machine, return what it needs to join, and remove nodes of machines that are gone.

    :param address: of the machine.
    :param manager: address of this machine.
    :raises Refused: the Swarm is not ready yet.
    """
    here = engine.swarm_state(patience=0, timeout=ANSWER)
    cluster = (here.get("Cluster") or {}).get("ID")
    if here["LocalNodeState"] != "active" or not here["ControlAvailable"] or not cluster:
        raise Refused("the Swarm is not ready yet")
    members.admit(address)
    nodes = workers()
    for node in nodes:
        if node.state != "down" or node.id == request.node:
            continue
        if node.address == address:
            remove(node, "another machine is at its address")
        elif node.address not in members.addresses:
            remove(node, "its machine is gone")
    if not request.node:
        print(f"{request.name} ({address}): admitted", flush=True)
    return {
        "token": docker("swarm", "join-token", "--quiet", "worker"),
        "manager": f"{manager}:2377",
        "cluster": cluster,
        # A machine does not notice by itself that its node was removed.
        "node": request.node if request.node in (node.id for node in nodes) else "",
        "homes": f"{manager}:/home",
    }


def leave(request: NodeRequest, address: str) -> dict[str, str]:
    """Remove the node of a machine that is being switched off, so that its servers restart elsewhere at once."""
    for node in workers():
        if (node.id, node.address) == (request.node, address):
            remove(node, "it has left")
    return {}


def main() -> None:
    settings, manager = json.loads(SETTINGS.read_text()), json.loads(SWARM_FILE.read_text())["address"]
    members = Members(settings["secret"])

    def answer(request: NodeRequest, address: str) -> dict[str, str]:
        try:
            return leave(request, address) if request.what == "leave" else join(request, address, manager, members)
        except Failed as error:
            raise Refused(f"the manager cannot do this now: {str(error)[:200]}") from error

    server = Server((manager, PORT), settings["secret"], settings["key"], answer, lambda line: print(line, flush=True))
    print(f"waiting for machines at {manager}:{PORT}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
