"""Mount the homes, start the engine, join the Swarm; and keep it so.

`--leave` tells the manager that the machine is being switched off. What it comes to is told in
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
from hubsmith_swarm_cluster.network import own_link
from hubsmith_swarm_cluster.protocol import PORT, NotLetIn, Wish, ask

SETTINGS = Path("/run/hubsmith/worker.json")
STATE = Path("/run/hubsmith/worker-state.json")
HOMES = Path("/var/lib/homes")
ENGINE = "docker.service"
MOUNT_OPTIONS = "vers=4.2,proto=tcp,hard,nosuid,nodev,noatime"
#: The Swarm that this machine is in or is joining: a manager with another one has begun anew.
CLUSTER = Path("/var/lib/docker/hubsmith-cluster")
#: Seconds between two looks, when all is well and when it is not.
WELL, UNWELL = 60, 5


def tell(state: str, why: str) -> None:
    """For the status and the journal."""
    write(STATE, json.dumps({"state": state, "why": why}))
    print(f"{state}: {why}", flush=True)


def mount_homes(source: str) -> None:
    """Have the homes; again when the master has another address now."""
    there, _, _ = mounted(HOMES)
    if there and there != source:
        run("umount", "--force", "--lazy", HOMES)
    if there != source:
        run("mount", "-t", "nfs4", "-o", MOUNT_OPTIONS, source, HOMES, timeout=120)


def gateway() -> None:
    """The bridge by which containers reach the internet; made by Swarm it would not have the MTU of the way there."""
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
    """Be in the manager's Swarm, and in no older one."""
    known = CLUSTER.read_text() if CLUSTER.exists() else ""
    managers = [one["Addr"] for one in state.get("RemoteManagers") or ()]
    there = state["LocalNodeState"] == "active" and state["NodeAddr"] == address
    if there and known == given["cluster"] and given["manager"] in managers:
        return
    if state["LocalNodeState"] != "inactive":
        docker("swarm", "leave", "--force")
    gateway()
    # First, since a join that takes long goes on in the engine.
    CLUSTER.write_text(given["cluster"])
    join(given, address)


def join(given: dict[str, str], address: str) -> None:
    """`docker swarm join`, which would show the token in the list of processes."""
    wish = {
        "JoinToken": given["token"], "RemoteAddrs": [given["manager"]], "ListenAddr": f"{address}:2377",
        "AdvertiseAddr": address, "DataPathAddr": address,
    }  # fmt: skip
    connection = UnixConnection("/run/docker.sock", timeout=PATIENCE)
    try:
        connection.request("POST", "/v1.41/swarm/join", json.dumps(wish), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        if answer.status != 200:
            raise Failed(f"the Swarm cannot be joined: {json.loads(answer.read())['message']}")
    except (OSError, http.client.HTTPException) as error:
        raise Failed(f"the engine does not answer: {error}") from error
    finally:
        connection.close()


def told(settings: dict[str, str], what: str, node: str) -> dict[str, str]:
    """What the manager answers to this machine."""
    wish = Wish(what, socket.gethostname(), node)
    try:
        return ask(settings["manager"], PORT, wish, pinned=settings["pin"], secret=settings["secret"])
    except NotLetIn as error:
        raise Failed(f"the manager does not let this machine in: {error}") from error
    except OSError as error:
        raise Failed(f"the manager does not answer: {error.strerror or type(error).__name__}") from error


def be_a_worker() -> None:
    settings = json.loads(SETTINGS.read_text())
    address, _ = own_link(settings["network"])
    if not mounted(HOMES)[0]:  # which, unlike a look at the folder, does not wait for a server that is away
        # The engine begins what it ran before as soon as it runs: not before the homes are there.
        mount_homes(told(settings, "join", "")["homes"])
    run("systemctl", "start", ENGINE, timeout=300)
    state = swarm_state()
    given = told(settings, "join", state["NodeID"])
    mount_homes(given["homes"])
    in_swarm(given, state, address)


def leave() -> None:
    """Say that this machine is being switched off, and end its servers."""
    settings = json.loads(SETTINGS.read_text())
    node = swarm_state()["NodeID"]
    docker("swarm", "leave", "--force")
    told(settings, "leave", node)


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
                tell("degraded", str(error))
            last = str(error)
            time.sleep(UNWELL)
        else:
            if last != "ready":
                tell("ready", "in the Swarm, with the homes")
            last = "ready"
            time.sleep(WELL)


if __name__ == "__main__":
    main()
