"""Nothing is left on the state partition: the machine says so, restarts, and is well again once there is space."""

from __future__ import annotations

import json

import pytest
from hub_fixtures import Hub

from hubsmith.vm.linux import Machine

pytestmark = [pytest.mark.vm, pytest.mark.modules("jupyterhub"), pytest.mark.slow]

#: Takes all blocks in one go, and then the crumbs.
FILL = """
fallocate --length "$(df --output=avail --block-size=1 /var | tail -n 1)" /var/fill || :
until [ "$(df --output=avail --block-size=1 /var | tail -n 1)" -lt 65536 ]; do
    dd if=/dev/zero of=/var/crumbs bs=64k oflag=append conv=notrunc,fsync status=none || break
done
df --output=avail --block-size=1 /var | tail -n 1
"""


def disk_item(machine: Machine) -> tuple[str, str]:
    """State and sentence of the status about the state partition."""
    report = json.loads(machine.execute("hubsmith status --json").stdout or '{"items": []}')
    found = [item for item in report["items"] if item["name"] == "state disk"]
    return (found[0]["state"], found[0]["why"]) if found else ("", "")


def wait_for_item(machine: Machine, state: str, timeout: float) -> str:
    """Wait for the state; returns the sentence."""
    machine.wait_until(f"the state disk to be {state}", lambda: disk_item(machine)[0] == state, timeout, interval=2)
    return disk_item(machine)[1]


@pytest.mark.allow("Failed|failed", "nothing can be written")
def test_a_full_state_partition_is_told_and_survived(hub: Hub) -> None:
    machine = hub.machine
    machine.succeed("echo kept > /var/lib/kept; echo kept > /home/alice/kept; sync")
    assert int(machine.succeed(FILL, timeout=180).split()[-1]) < 2**20
    assert wait_for_item(machine, "failed", 60).startswith("full: 0.0 of ")
    assert machine.get("/hubsmith/status").text.count("full: 0.0 of ") == 1
    machine.restart(600)
    # /etc can be written once there is space again, without another restart.
    assert "rw" in machine.succeed("findmnt --noheadings --output OPTIONS /etc").split(",")
    # Not only the door is open: the machine tells what it misses.
    assert wait_for_item(machine, "failed", 300).startswith("full: 0.0 of ")
    machine.succeed("rm -f /var/fill /var/crumbs; sync")
    wait_for_item(machine, "ready", 60)
    # What could not be written at the start is written now.
    machine.succeed("hubsmith apply", timeout=300)
    hub.wait()
    assert machine.succeed("cat /var/lib/kept /home/alice/kept") == "kept\nkept\n"
    assert hub.person("alice").request("GET", "/hub/api/users").status_code == 200, "she is still an admin"
    assert hub.person("bob").request("GET", "/hub/api/user").json()["name"] == "bob"
    machine.wait_until("everything to be ready", lambda: machine.execute("hubsmith status").rc == 0, 180, interval=2)
