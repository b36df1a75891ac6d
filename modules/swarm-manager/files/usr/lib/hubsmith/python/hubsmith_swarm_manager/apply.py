"""Start or stop this machine's Swarm manager. Reads apply's JSON on standard input."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from hubsmith.guest.context import read_context
from hubsmith.guest.files import write
from hubsmith.guest.programs import run
from hubsmith_docker.engine import docker, swarm_state
from hubsmith_swarm_cluster.network import own_link
from hubsmith_swarm_manager.members import Members, firewall
from hubsmith_swarm_manager.place import NAME as CONTAINER

ENGINE, NFS = "docker.service", "nfs-server.service"
PLACE, JOIN = "hubsmith-swarm-place.service", "hubsmith-join.service"
HUB = "hubsmith-hub.target"
#: Units that run in the network namespace of the container `hubsmith-place`, which is on the servers' networks.
AT_THE_PLACE = ("jupyterhub.service", "configurable-http-proxy.service", "jupyterhub-idle-culler.service")
DROP_INS = Path("/run/systemd/system")
EXPORTS, EXPORTS_OF_THE_DAY = Path("/run/hubsmith/homes.exports"), Path("/etc/exports.d/hubsmith.exports")
SAME_PATH = Path("/var/lib/homes")
#: File for the spawner and the status item: `mtu` of the link to the other machines, `address` and `on_master`.
SWARM_FILE = Path("/run/hubsmith/swarm.json")
#: Address range and subnet size of overlay networks: one for each user with a running server, and Swarm's own, which
#: needs an address per node.
POOL, POOL_PARTS = "10.128.0.0/10", "24"
#: Validity of the nodes' certificates. A machine may be off for longer than Swarm's default of 90 days.
CERTIFICATES = "87600h"
#: After three missed heartbeats a worker counts as lost. Its servers restart elsewhere, and users lose what they had in
#: memory. With Swarm's default of 5 s, a master that is busy for 15 s would lose all workers.
HEARTBEAT = "20s"


def leads(state: dict[str, Any], address: str) -> bool:
    return bool(state["LocalNodeState"] == "active" and state["ControlAvailable"] and state["NodeAddr"] == address)


def swarm(address: str, *, renew: bool) -> None:
    """Continue the existing Swarm, or create one.

    A Swarm that cannot be continued is replaced. This loses only the running servers, and workers join the new Swarm.

    :param renew: replace it in any case. Nothing that a machine knows of the old one is valid in the new one: neither
        join token nor certificates nor the keys of the gossip.
    """
    state = swarm_state()
    if leads(state, address) and not renew:
        return
    if state["LocalNodeState"] != "inactive":
        why = "cluster.secret is new" if renew else f"it is {state['LocalNodeState']} at {state['NodeAddr']}"
        print(f"the existing Swarm is replaced, and its servers end: {why}", file=sys.stderr)
        # The hub's container is on the old Swarm's networks, whose addresses the new one gives out again. The hub would
        # start it again; apply starts the hub at the end.
        run("systemctl", "stop", HUB, PLACE)
        docker("rm", "--force", CONTAINER, may_end_with=(0, 1))
        docker("swarm", "leave", "--force")
    docker(
        "swarm", "init", "--advertise-addr", address, "--listen-addr", f"{address}:2377",
        "--data-path-addr", address, "--default-addr-pool", POOL, "--default-addr-pool-mask-length", POOL_PARTS,
        "--cert-expiry", CERTIFICATES, "--dispatcher-heartbeat", HEARTBEAT,
    )  # fmt: skip


def write_or_remove(path: Path, wanted: str | None) -> bool:
    """Write a file, or remove it if ``wanted`` is None.

    :returns: whether that changed anything.
    """
    if wanted is not None:
        return write(path, wanted)
    existed = path.exists()
    path.unlink(missing_ok=True)
    return existed


def drop_ins(on: bool) -> None:
    """Write or remove drop-ins for the hub's units.

    With them, the units run in the network namespace of the container, stop with it, and start again when it is back.
    """
    unit = (
        f"[Unit]\nBindsTo={PLACE}\nAfter={PLACE}\n"
        "[Service]\nNetworkNamespacePath=/run/hubsmith/place\nIPAddressDeny=\nIPAddressAllow=\n"
    )
    texts = dict.fromkeys(AT_THE_PLACE, unit) | {HUB: f"[Unit]\nUpholds={' '.join(AT_THE_PLACE)}\n"}
    changes = [
        write_or_remove(DROP_INS / f"{name}.d/20-swarm.conf", text if on else None) for name, text in texts.items()
    ]
    if any(changes):
        run("systemctl", "daemon-reload")


def main() -> None:
    context = read_context()
    settings, facts = context["settings"], context["facts"]
    on = facts["swarm"]
    drop_ins(on)
    changed = write_or_remove(EXPORTS_OF_THE_DAY, EXPORTS.read_text() if on else None)
    if not on:
        SWARM_FILE.unlink(missing_ok=True)
        run("systemctl", "stop", JOIN, PLACE, NFS, ENGINE)
        firewall(None, ())
        return
    members = Members(settings["cluster"]["secret"])
    if not members.in_effect:
        # It still lets machines with the old secret in. It starts again when no trace of that one is left.
        run("systemctl", "stop", JOIN)
    address, mtu = own_link(settings["cluster"]["network"])
    write(SWARM_FILE, json.dumps({"address": address, "mtu": mtu, "on_master": facts["swarm_on_master"]}))
    firewall(context["ports"], members.addresses)
    # The homes have the same path on every node. Mount them before the engine restarts its containers.
    if not SAME_PATH.is_mount():
        run("mount", "--bind", "/home", SAME_PATH)
    run("systemctl", "start", ENGINE, NFS)
    if changed:
        run("exportfs", "-ra")
    swarm(address, renew=not members.in_effect)
    if not members.in_effect:
        # Last, so that the next run repeats what this one did not finish.
        members.save()
    run("systemctl", "start", JOIN, PLACE)


if __name__ == "__main__":
    main()
