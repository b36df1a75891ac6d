"""A machine that nobody gave settings, on the other firmware and a larger disk than the hub of the tests has: booted
once, frozen, and thawed for each test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hubsmith.testing.frozen import FrozenMachines
from hubsmith.vm.hardware import Hardware
from hubsmith.vm.linux import Machine
from hubsmith.vm.machine import Snapshot
from hubsmith.vm.metadata import Instance
from hubsmith.vm.testbed import Testbed

HARDWARE = Hardware(memory_mb=2048, firmware="bios", disk_size_gb=30)


def booted(machine: Machine) -> None:
    """Wait until it has started."""
    machine.wait_for_boot(600)


@pytest.fixture(scope="session")
def bare_snapshot(frozen: FrozenMachines, testbed: Testbed, image: Path) -> Snapshot:
    """It has started by BIOS and waits for its settings."""
    return frozen.machine(testbed, "bare", image, HARDWARE, Instance(hostname="bare"), booted)


@pytest.fixture
def bare(thaw: Callable[..., Machine], bare_snapshot: Snapshot) -> Machine:
    """The machine, as it was after its first boot."""
    return thaw(bare_snapshot)
