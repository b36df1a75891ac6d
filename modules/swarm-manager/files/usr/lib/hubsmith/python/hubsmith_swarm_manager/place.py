"""Service that runs an idle container on the network of every running server, and ends with it.

Only containers can be on an overlay network. The hub and its proxy are systemd units in the container's network
namespace.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from hubsmith_docker.engine import docker

NAME, IMAGE = "hubsmith-place", "hubsmith/place:1"
LINK = Path("/run/hubsmith/place")
#: Host name of the hub on the servers' networks.
HUB = "hub"
#: Seconds until the engine leads its Swarm. Before that it knows no overlay networks.
PATIENCE = 180
#: Networks that are joined in parallel. Each takes one to three seconds under emulation.
AT_ONCE = 8


def wait_for_the_swarm() -> None:
    """Wait until this node leads the Swarm; exit if the timeout expires."""
    deadline = time.monotonic() + PATIENCE
    wanted = "{{.Self}} {{.Status}} {{.ManagerStatus}}"
    while time.monotonic() < deadline:
        if "true Ready Leader" in docker("node", "ls", "--format", wanted, may_end_with=(0, 1)).splitlines():
            return
        time.sleep(1)
    sys.exit(f"the Swarm has no leader after {PATIENCE} s")


def networks() -> list[str]:
    """Return the IDs of all servers' networks."""
    if not (services := docker("service", "ls", "--quiet", "--filter", "label=hubsmith.user").split()):
        return []
    wanted = "{{range .Spec.TaskTemplate.Networks}}{{.Target}} {{end}}"
    return docker("service", "inspect", "--format", wanted, *services).split()


def make_image() -> None:
    if not docker("image", "ls", "--quiet", IMAGE):
        tar = subprocess.run(
            ["/usr/bin/tar", "--create", "--directory=/", "usr/bin/busybox"], capture_output=True, check=True
        )
        command = ["/usr/bin/docker", "import", "--change", 'CMD ["/usr/bin/busybox", "sleep", "inf"]', "-", IMAGE]
        subprocess.run(command, input=tar.stdout, capture_output=True, check=True)


def make() -> None:
    """Create the container, connect it to all servers' networks, and link its network namespace."""
    docker("rm", "--force", NAME, may_end_with=(0, 1))
    # It must not forward packets between the networks.
    docker(
        "run", "--detach", "--name", NAME, "--hostname", HUB, "--read-only", "--cap-drop", "ALL", "--memory", "16m",
        "--pids-limit", "8", "--sysctl", "net.ipv4.ip_forward=0", IMAGE,
    )  # fmt: skip
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda one: docker("network", "connect", "--alias", HUB, one, NAME), networks()))
    LINK.unlink(missing_ok=True)
    LINK.symlink_to(docker("inspect", "--format", "{{.NetworkSettings.SandboxKey}}", NAME))


def tell_systemd(state: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stream:
        stream.sendto(state.encode(), os.environ["NOTIFY_SOCKET"].replace("@", "\0", 1))


def main() -> None:
    wait_for_the_swarm()
    make_image()
    make()
    tell_systemd("READY=1")
    try:
        ended = docker("wait", NAME)
    finally:
        LINK.unlink(missing_ok=True)
    sys.exit(f"the container ended: {json.dumps(ended)}")


if __name__ == "__main__":
    main()
