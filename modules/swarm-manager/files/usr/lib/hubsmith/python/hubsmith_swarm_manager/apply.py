"""Make this machine the manager of a Swarm, or end that; reads apply's JSON on standard input."""

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

ENGINE, NFS = "docker.service", "nfs-server.service"
PLACE, JOIN = "hubsmith-swarm-place.service", "hubsmith-join.service"
#: The hub, its proxy and its culler are where the notebook servers can reach them and be reached.
AT_THE_PLACE = ("jupyterhub.service", "configurable-http-proxy.service", "jupyterhub-idle-culler.service")
DROP_INS = Path("/run/systemd/system")
EXPORTS, EXPORTS_OF_THE_DAY = Path("/run/hubsmith/homes.exports"), Path("/etc/exports.d/hubsmith.exports")
SAME_PATH = Path("/var/lib/homes")
#: What the spawner and the status know of the cluster: `mtu` of the way to the other machines, `address`, `on_master`.
SWARM_FILE = Path("/run/hubsmith/swarm.json")
#: Of this range each overlay network gets a part: one for each person whose server runs, and one of Swarm's own that
#: takes an address for each node.
POOL, POOL_PARTS = "10.128.0.0/10", "24"
#: A machine may be switched off for longer than Swarm's own 90 days.
CERTIFICATES = "87600h"
#: A worker that was not heard of for three of these counts as lost, and its servers begin again elsewhere without what
#: people had in memory. With Swarm's own 5 s a master that is busy for a quarter of a minute would lose all of them.
HEARTBEAT = "20s"


def leads(state: dict[str, Any], address: str) -> bool:
    return bool(state["LocalNodeState"] == "active" and state["ControlAvailable"] and state["NodeAddr"] == address)


def swarm(address: str) -> None:
    """Begin a Swarm, or go on with the one that is kept.

    One that does not come back is given up: all that is lost are running servers, and workers join the new one.
    """
    state = swarm_state()
    if leads(state, address):
        return
    if state["LocalNodeState"] != "inactive":
        print(
            f"the Swarm that was kept is {state['LocalNodeState']} at {state['NodeAddr']}: beginning anew",
            file=sys.stderr,
        )
        docker("swarm", "leave", "--force")
    docker(
        "swarm", "init", "--advertise-addr", address, "--listen-addr", f"{address}:2377",
        "--data-path-addr", address, "--default-addr-pool", POOL, "--default-addr-pool-mask-length", POOL_PARTS,
        "--cert-expiry", CERTIFICATES, "--dispatcher-heartbeat", HEARTBEAT,
    )  # fmt: skip


def write_or_remove(path: Path, wanted: str | None) -> bool:
    """Write or remove a file; whether that changed anything."""
    if wanted is not None:
        return write(path, wanted)
    existed = path.exists()
    path.unlink(missing_ok=True)
    return existed


def drop_ins(on: bool) -> None:
    """Let the hub's units run in the network namespace of their place, end with it, and begin again when it is back."""
    unit = (
        f"[Unit]\nBindsTo={PLACE}\nAfter={PLACE}\n"
        "[Service]\nNetworkNamespacePath=/run/hubsmith/place\nIPAddressDeny=\nIPAddressAllow=\n"
    )
    texts = dict.fromkeys(AT_THE_PLACE, unit) | {"hubsmith-hub.target": f"[Unit]\nUpholds={' '.join(AT_THE_PLACE)}\n"}
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
        return
    address, mtu = own_link(settings["cluster"]["network"])
    write(SWARM_FILE, json.dumps({"address": address, "mtu": mtu, "on_master": facts["swarm_on_master"]}))
    # On every node the homes are at the same path, before the engine begins what it ran.
    if not SAME_PATH.is_mount():
        run("mount", "--bind", "/home", SAME_PATH)
    run("systemctl", "start", ENGINE, NFS)
    if changed:
        run("exportfs", "-ra")
    swarm(address)
    run("systemctl", "start", JOIN, PLACE)


if __name__ == "__main__":
    main()
