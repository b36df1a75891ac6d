"""Machines for pytest.

Fixtures: ``testbed``, ``image`` and ``frozen`` (session), ``make_machine`` and ``thaw`` (per test). A machine is booted
once, frozen, and thawed for each test, also of later runs::

    @pytest.fixture(scope="session")
    def booted(frozen, testbed, image):
        hardware, instance = Hardware(disk_size_gb=20), Instance(hostname="plain")
        return frozen.machine(testbed, "plain", image, hardware, instance, Machine.wait_for_boot)

    @pytest.mark.needs(memory_mb=3072)
    def test_something(thaw, booted):
        thaw(booted).succeed("true")

Every machine that runs at the end of a test is judged by :mod:`hubsmith.vm.checks`; ``@pytest.mark.allow`` says which
findings belong to the test. When a test fails, the end of each machine's console, its journal and a screenshot are
put into ``out/test-logs/<test>/``.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from hubsmith.errors import HarnessFailed, HubsmithError, ImageFailed
from hubsmith.output import Output
from hubsmith.paths import project_root
from hubsmith.testing.frozen import FrozenMachines
from hubsmith.vm.accel import require_tools
from hubsmith.vm.checks import Allowed, problems
from hubsmith.vm.hardware import Hardware
from hubsmith.vm.linux import Machine
from hubsmith.vm.machine import RESERVE_MB, Snapshot, VirtualMachine
from hubsmith.vm.testbed import Testbed, free_memory_mb

_TESTBED: pytest.StashKey[Testbed] = pytest.StashKey()
_SEEN: pytest.StashKey[dict[VirtualMachine, int]] = pytest.StashKey()
#: The property of a failed test that says what is at fault: `image` or `harness`.
VERDICT = "verdict"


def pytest_configure(config: pytest.Config) -> None:
    """The markers."""
    config.addinivalue_line("markers", "needs(memory_mb): MiB of memory that the machines of the test take together")
    config.addinivalue_line("markers", "allow(pattern, reason): a finding of the base checks that belongs to the test")
    config.stash[_SEEN] = {}


def image_file(name: str) -> Path:
    """The disk of a built image.

    :raises HarnessFailed: it is not built, or is no disk.
    """
    try:
        return Output.of(project_root(), name).disk
    except HubsmithError as error:
        raise HarnessFailed(error.what, where=error.where, hint=error.hint) from None


@pytest.fixture(scope="session")
def image(request: pytest.FixtureRequest) -> Path:
    """The disk of the image under test (:mod:`hubsmith.testing.images` says which)."""
    return image_file(request.param)


@pytest.fixture(scope="session")
def frozen(pytestconfig: pytest.Config) -> Iterator[FrozenMachines]:
    """Machines that an earlier run has frozen; with `--fresh` none."""
    with FrozenMachines(fresh=bool(pytestconfig.getoption("--fresh", False))) as cache:
        yield cache


@pytest.fixture(scope="session")
def testbed(request: pytest.FixtureRequest, frozen: FrozenMachines) -> Iterator[Testbed]:
    """The folder of all machines of this run."""
    require_tools()
    with Testbed() as made:
        frozen.share_key(made)
        request.config.stash[_TESTBED] = made
        yield made
        del request.config.stash[_TESTBED]


@pytest.fixture
def make_machine(testbed: Testbed, image: Path) -> Iterator[Callable[..., Machine]]:
    """Makes machines of the image under test, which are gone after the test; takes what :class:`Machine` takes."""
    made: list[Machine] = []

    def make(name: str = "machine", hardware: Hardware | None = None, **more: Any) -> Machine:
        made.append(Machine(testbed, name, image, hardware, **more))
        return made[-1]

    yield make
    for machine in reversed(made):
        machine.discard()


@pytest.fixture
def thaw(testbed: Testbed) -> Iterator[Callable[..., Machine]]:
    """Makes a machine that goes on from a snapshot, and is gone after the test."""
    made: list[Machine] = []

    def go_on(snapshot: Snapshot, name: str | None = None, **more: Any) -> Machine:
        made.append(Machine.clone(testbed, name or f"{snapshot.origin}-{len(made)}", snapshot, **more))
        return made[-1]

    yield go_on
    for machine in reversed(made):
        machine.discard()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Refuse a test that the host has no memory for, instead of letting the kernel choose a victim."""
    for marker in item.iter_markers("needs"):
        wanted = int(marker.kwargs["memory_mb"])
        if free_memory_mb() < wanted + RESERVE_MB:
            raise HarnessFailed(f"the test needs {wanted} MiB of memory, the host has {free_memory_mb()} MiB left")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Judge all machines when the test itself has succeeded."""
    outcome = yield
    judge(item)
    return outcome


def judge(item: pytest.Item) -> None:
    """Run the base checks on every machine of the run that is on, or was since the last test.

    :raises ImageFailed: with all findings that the test does not allow.
    """
    allowed = []
    for marker in item.iter_markers("allow"):
        reason = marker.kwargs.get("reason") or (marker.args[1] if len(marker.args) > 1 else "")
        if not reason:
            raise HarnessFailed(f"@pytest.mark.allow({marker.args[0]!r}) does not say why")
        allowed.append(Allowed(marker.args[0], reason))
    seen = item.config.stash[_SEEN]
    found = []
    for machine in _machines(item):
        size = machine.console.size()
        if machine.running or size > seen.get(machine, 0):
            found += problems(machine, allowed, since=seen.get(machine, 0))
            seen[machine] = size
    if found:
        raise ImageFailed("at the end of the test:\n" + "\n".join(f"- {problem}" for problem in found))


def _machines(item: pytest.Item) -> list[VirtualMachine]:
    testbed = item.config.stash.get(_TESTBED, None)
    return list(testbed.machines) if testbed else []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add who is at fault, and keep the logs of the machines."""
    report = yield
    if not report.failed or call.excinfo is None:
        return report
    error = call.excinfo.value
    if isinstance(error, HubsmithError):
        verdict = "harness" if isinstance(error, HarnessFailed) else "image"
        report.user_properties.append((VERDICT, verdict))
        report.sections.append(("Verdict", f"the {verdict} failed"))
    # Where a fixture may still have its machine, that is before the tear-down.
    if call.when != "teardown" and (machines := _machines(item)):
        folder = log_folder(item)
        shutil.rmtree(folder, ignore_errors=True)
        for machine in machines:
            collect(machine, folder)
        report.sections.append(("Machines", f"their logs are in {folder}"))
    return report


def log_folder(item: pytest.Item) -> Path:
    """Where the logs of a failed test go."""
    safe = re.sub(r"[^A-Za-z0-9._-]+", "-", item.nodeid.removeprefix("tests/").replace(".py::", "/"))
    return project_root(item.config.rootpath) / "out" / "test-logs" / safe.strip("-")


def collect(machine: VirtualMachine, folder: Path) -> None:
    """Copy a machine's console and QEMU's messages, and ask it for its journal and its screen when it is on."""
    if not machine.console.log.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    prefix = folder / machine.name
    prefix.with_suffix(".console.log").write_text(machine.console.text())
    if (log := machine.folder / "qemu.log").exists():
        shutil.copyfile(log, prefix.with_suffix(".qemu.log"))
    if not machine.running:
        return
    # A machine that is in trouble need not give anything.
    with contextlib.suppress(HubsmithError):
        machine.screenshot(prefix.with_suffix(".png"))
    if isinstance(machine, Machine):
        with contextlib.suppress(HubsmithError):
            prefix.with_suffix(".journal.log").write_text(
                machine.execute("journalctl --namespace='*' -b --no-pager -o short-precise", timeout=90).stdout
            )
