"""Hubs for the tests: booted once, frozen, and thawed for each test.

A hub that a test changes is thrown away; each test begins with the one that was frozen at its login page.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hub_client import HubClient
from people import PASSWORD, settings

from hubsmith.deploy.user_data import user_data
from hubsmith.testing.frozen import FrozenMachines
from hubsmith.vm.hardware import Hardware
from hubsmith.vm.linux import Machine
from hubsmith.vm.machine import Snapshot
from hubsmith.vm.metadata import Instance
from hubsmith.vm.testbed import Testbed
from hubsmith.vm.waits import scaled

#: Seconds under emulation with both processors busy; the start of a server with JupyterLab is the longest of them.
SPAWN, KERNEL, HUB = 400, 240, 300
HARDWARE = Hardware(memory_mb=3072, disk_size_gb=20)


class Hub:
    """A machine with a hub, and who comes to it."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def person(self, name: str, password: str = PASSWORD) -> HubClient:
        """Somebody who has logged in."""
        return HubClient(self.machine.url, name, timeout=scaled(120)).login(password)

    def at_work(self, name: str) -> HubClient:
        """Somebody whose server runs."""
        client = self.person(name)
        client.spawn(scaled(SPAWN))
        return client

    def apply(self, text: str) -> None:
        """Change the settings and apply them."""
        self.machine.succeed("cat > /etc/hubsmith/settings.toml", stdin=text)
        self.machine.succeed("hubsmith apply", timeout=300)

    def wait(self) -> None:
        """Until the hub answers."""
        self.machine.wait_for_https("/hub/login", timeout=HUB)

    def wait_for_unit_state(self, unit: str, state: str, timeout: float = 120) -> None:
        """Until ``systemctl is-active`` says so."""
        self.machine.wait_until(
            f"{unit} to be {state}",
            lambda: self.machine.execute(f"systemctl is-active {unit}").stdout.strip() == state,
            timeout, interval=1,
        )  # fmt: skip

    def kill_main_process(self, unit: str) -> None:
        """``kill -9``."""
        self.machine.succeed(f"systemctl kill --kill-whom=main --signal=KILL {unit}")


def start(testbed: Testbed, image: Path, name: str, text: str, hardware: Hardware = HARDWARE) -> Machine:
    """Boot a hub and wait for its login page."""
    machine = Machine(testbed, name, image, hardware, instance=Instance(hostname="hub", user_data=user_data(text)))
    machine.start()
    at_login_page(machine)
    return machine


def at_login_page(machine: Machine) -> None:
    """Wait until it has started and its hub answers."""
    machine.wait_for_boot(600)
    machine.wait_for_https("/hub/login", timeout=HUB)


@pytest.fixture(scope="session")
def hub_snapshot(frozen: FrozenMachines, testbed: Testbed, image: Path) -> Snapshot:
    """A hub with the admin alice and with bob, at its login page."""
    text = settings(("alice", "bob"), quota="64M", spawner={"start_timeout": "6m"})
    instance = Instance(hostname="hub", user_data=user_data(text))
    return frozen.machine(testbed, "hub", image, HARDWARE, instance, at_login_page)


@pytest.fixture(scope="session")
def busy_hub_snapshot(testbed: Testbed, hub_snapshot: Snapshot) -> Snapshot:
    """The same hub a moment later: alice's server runs."""
    machine = Machine.clone(testbed, "busy-hub", hub_snapshot)
    Hub(machine).at_work("alice")
    return machine.snapshot(f"busy-{hub_snapshot.folder.name}", resume=False)


@pytest.fixture
def hub(thaw: Callable[..., Machine], hub_snapshot: Snapshot) -> Hub:
    """The hub, as if nobody had ever been there."""
    return Hub(thaw(hub_snapshot))


@pytest.fixture
def busy_hub(thaw: Callable[..., Machine], busy_hub_snapshot: Snapshot) -> Hub:
    """The hub with alice at work."""
    return Hub(thaw(busy_hub_snapshot))
