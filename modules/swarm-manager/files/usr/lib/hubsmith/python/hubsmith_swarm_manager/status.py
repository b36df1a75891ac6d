"""Status item of the Swarm: the number of nodes that can run servers."""

from __future__ import annotations

import json
from pathlib import Path

from hubsmith.guest.programs import Failed, run
from hubsmith.guest.status.answer import answer

SWARM_FILE = Path("/run/hubsmith/swarm.json")


def look() -> tuple[str, str]:
    if not SWARM_FILE.exists():
        return "ready", "none: servers run on this machine"
    try:
        nodes = [json.loads(line) for line in run("docker", "node", "ls", "--format", "{{json .}}").splitlines()]
    except Failed:
        return "failed", "the engine does not lead a Swarm"
    on_master = json.loads(SWARM_FILE.read_text())["on_master"]
    nodes = [node for node in nodes if on_master or not node["ManagerStatus"]]
    usable = [node for node in nodes if node["Status"] == "Ready" and node["Availability"] == "Active"]
    gone = [node for node in nodes if node["Status"] != "Ready"]
    why = f"{len(usable)} nodes for servers" + (f", {len(gone)} do not answer" if gone else "")
    return ("ready" if usable and not gone else "degraded"), why


if __name__ == "__main__":
    answer(*look())
