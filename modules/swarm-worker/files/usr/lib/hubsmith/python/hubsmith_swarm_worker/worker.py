"""Service of a Swarm worker: mounts the homes, starts the engine, joins the Swarm, and repairs this if it breaks.

With `--leave`, tell the manager that this machine is being switched off. The service writes its state to
/run/hubsmith/worker-state.json, for the status item.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any

from hubsmith.guest.files import write
from hubsmith.guest.programs import Failed, mounted, run
from hubsmith.guest.unix_http import UnixConnection
from hubsmith_docker.engine import PATIENCE, docker, swarm_state
from hubsmith_swarm_cluster.network import check_way, own_link
from hubsmith_swarm_cluster.protocol import PORT, JoinDenied, NodeRequest, ask

SETTINGS = Path("/run/hubsmith/worker.json")
STATE = Path("/run/hubsmith/worker-state.json")
HOMES = Path("/var/lib/homes")
ENGINE = "docker.service"
MOUNT_OPTIONS = "vers=4.2,proto=tcp,hard,nosuid,nodev,noatime"
#: File with the ID of the Swarm that this machine joined. If the manager has another ID, it has created a new Swarm.
CLUSTER = Path("/var/lib/docker/hubsmith-cluster")
#: Seconds between two checks, if all is well and if not.
WELL, UNWELL = 60, 5


def report(state: str, why: str) -> None:
    """Write the state for the status item and the journal."""
    write(STATE, json.dumps({"state": state, "why": why}))
    print(f"{state}: {why}", flush=True)


def mount_homes(source: str) -> None:
    """Mount the homes. Mount them again if the master's address has changed."""
    there, _, _ = mounted(HOMES)
    if there and there != source:
        run("umount", "--force", "--lazy", HOMES)
    if there != source:
        run("mount", "-t", "nfs4", "-o", MOUNT_OPTIONS, source, HOMES, timeout=120)


def gateway() -> None:
    """Create the bridge through which containers reach the internet.

    Docker would create it with its default MTU, not with the MTU of the outgoing link.
    """
    if "docker_gwbridge" in docker("network", "ls", "--format", "{{.Name}}").splitlines():
        return
    route = json.loads(run("ip", "-json", "route", "get", "192.0.2.1"))[0]
    mtu = Path(f"/sys/class/net/{route['dev']}/mtu").read_text().strip()
    options = {
        "bridge.name": "docker_gwbridge", "bridge.enable_icc": "false", "bridge.enable_ip_masquerade": "true",
        "driver.mtu": mtu,
    }  # fmt: skip
    words = [word for key, value in options.items() for word in ("--opt", f"com.docker.network.{key}={value}")]
    docker("network", "create", *words, "docker_gwbridge")


def in_swarm(given: dict[str, str], state: dict[str, Any], address: str) -> None:
    """Join the manager's Swarm, and leave an older one first, or the same if the manager has removed this node."""
    known = CLUSTER.read_text() if CLUSTER.exists() else ""
    managers = [one["Addr"] for one in state.get("RemoteManagers") or ()]
    there = state["LocalNodeState"] == "active" and state["NodeAddr"] == address
    in_it = known == given["cluster"] and given["manager"] in managers and given["node"] == state["NodeID"]
    if there and in_it:
        return
    if state["LocalNodeState"] != "inactive":
        docker("swarm", "leave", "--force")
    gateway()
    # Before the join, because a join that times out here continues in the engine.
    CLUSTER.write_text(given["cluster"])
    join(given, address)


def join(given: dict[str, str], address: str) -> None:
    """Join a Swarm by the engine's API. `docker swarm join` would show the token in the process list."""
    options = {
        "JoinToken": given["token"], "RemoteAddrs": [given["manager"]], "ListenAddr": f"{address}:2377",
        "AdvertiseAddr": address, "DataPathAddr": address,
    }  # fmt: skip
    connection = UnixConnection("/run/docker.sock", timeout=PATIENCE)
    try:
        connection.request("POST", "/v1.41/swarm/join", json.dumps(options), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        if answer.status != 200:
            raise Failed(f"the Swarm cannot be joined: {json.loads(answer.read())['message']}")
    except (OSError, http.client.HTTPException) as error:
        raise Failed(f"the engine does not answer: {error}") from error
    finally:
        connection.close()


def ask_manager(settings: dict[str, str], what: str, node: str) -> dict[str, str]:
    """Send a request of this machine to the manager and return its answer.

    :raises Failed: the manager denied it or does not answer.
    """
    request = NodeRequest(what, socket.gethostname(), node)
    try:
        return ask(settings["manager"], PORT, request, pinned=settings["pin"], secret=settings["secret"])
    except JoinDenied as error:
        raise Failed(f"the manager does not let this machine in: {error}") from error
    except OSError as error:
        raise Failed(f"the manager does not answer: {error.strerror or type(error).__name__}") from error


def be_a_worker() -> None:
    settings = json.loads(SETTINGS.read_text())
    address, _ = own_link(settings["network"])
    check_way(settings["manager"], address)
    if not mounted(HOMES)[0]:  # unlike stat(), this does not hang if the NFS server is away
        # Mount the homes first: once the engine runs, it restarts its containers.
        mount_homes(ask_manager(settings, "join", "")["homes"])
    run("systemctl", "start", ENGINE, timeout=300)
    state = swarm_state()
    given = ask_manager(settings, "join", state["NodeID"])
    mount_homes(given["homes"])
    in_swarm(given, state, address)


def leave() -> None:
    """Leave the Swarm, which ends this machine's servers, and tell the manager to forget this node."""
    settings = json.loads(SETTINGS.read_text())
    node = swarm_state()["NodeID"]
    docker("swarm", "leave", "--force")
    ask_manager(settings, "leave", node)


def main() -> None:
    os.umask(0o022)
    if sys.argv[1:] == ["--leave"]:
        try:
            leave()
        except Failed as error:
            sys.exit(str(error))
        return
    last = ""
    while True:
        try:
            be_a_worker()
        except Failed as error:
            if last != str(error):
                report("degraded", str(error))
            last = str(error)
            time.sleep(UNWELL)
        else:
            if last != "ready":
                report("ready", "in the Swarm, with the homes")
            last = "ready"
            time.sleep(WELL)


if __name__ == "__main__":
    main()
