"""A machine that nobody gave settings, on the other firmware and a larger disk than the hub of the tests has: booted
once, frozen, and thawed for each test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hubsmith.vm.hardware import Hardware
from hubsmith.vm.linux import Machine
from hubsmith.vm.machine import Snapshot
from hubsmith.vm.metadata import Instance
from hubsmith.vm.testbed import Testbed

HARDWARE = Hardware(memory_mb=2048, firmware="bios", disk_size_gb=30)


@pytest.fixture(scope="session")
def bare_snapshot(testbed: Testbed, image: Path) -> Snapshot:
    """It has started by BIOS and waits for its settings."""
    machine = Machine(testbed, "bare", image, HARDWARE, instance=Instance(hostname="bare"))
    machine.start()
    machine.wait_for_boot(600)
    return machine.snapshot(f"bare-{image.stem}", resume=False)


@pytest.fixture
def bare(thaw: Callable[..., Machine], bare_snapshot: Snapshot) -> Machine:
    """The machine, as it was after its first boot."""
    return thaw(bare_snapshot)
