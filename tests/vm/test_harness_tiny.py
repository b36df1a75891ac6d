"""The harness itself, with a guest of one boot sector (``tiny.S``): quick, and on any host."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tiny

from hubsmith.errors import HarnessFailed, HubsmithError, ImageFailed
from hubsmith.vm import Hardware, PersistentMachines, Testbed, VirtualMachine, Volume, disks
from hubsmith.vm.accel import Accelerator, boots, detect
from hubsmith.vm.checks import Allowed, problems
from hubsmith.vm.qmp import QmpRefused

pytestmark = [pytest.mark.vm, pytest.mark.needs(memory_mb=256)]

SMALL = Hardware(firmware="bios", memory_mb=64, cpus=1)
READY = "tiny: ready"
Make = Callable[..., VirtualMachine]


@pytest.fixture
def bed() -> Iterator[Testbed]:
    with Testbed() as made:
        yield made


@pytest.fixture
def make(bed: Testbed) -> Make:
    image = tiny.make_image(bed.folder / "tiny.raw")

    def machine(name: str = "tiny", hardware: Hardware = SMALL) -> VirtualMachine:
        return VirtualMachine(bed, name, image, hardware)

    return machine


@pytest.fixture
def guest(make: Make) -> VirtualMachine:
    machine = make()
    machine.start()
    machine.wait_for_console(READY, 30)
    return machine


def test_all_that_is_typed_arrives_and_in_order(guest: VirtualMachine) -> None:
    text = "".join("xyzXYZ0123456789"[n % 16] for n in range(200))
    guest.send_console(text)
    guest.wait_for_console(text, 60)


def test_a_panic_ends_a_wait_at_once(guest: VirtualMachine) -> None:
    guest.send_console("p")
    started = time.monotonic()
    with pytest.raises(ImageFailed, match=r"'tiny' is dead.*Kernel panic - not syncing: tiny"):
        guest.wait_for_console("login:", 60)
    assert time.monotonic() - started < 20


def test_a_panic_can_be_what_is_waited_for(guest: VirtualMachine) -> None:
    guest.send_console("p")
    assert guest.wait_for_console("not syncing: (.*)$", 30)[1] == "tiny"


def test_a_guest_that_switches_itself_off_has_failed(guest: VirtualMachine) -> None:
    guest.send_console("o")
    with pytest.raises(ImageFailed, match="has switched itself off"):
        guest.wait_for_console("login:", 60)
    assert not guest.running


def test_a_qemu_that_dies_is_the_harness_s_fault(guest: VirtualMachine) -> None:
    pid = next(int(p.name) for p in Path("/proc").glob("[0-9]*") if str(guest.folder) == _cwd(p) and "qemu" in _exe(p))
    os.kill(pid, signal.SIGSEGV)
    with pytest.raises(HarnessFailed, match="QEMU of 'tiny' ended with exit code -11"):
        guest.wait_for_console("login:", 60)


def test_a_wait_says_for_what_how_long_and_what_was_on_the_console(guest: VirtualMachine) -> None:
    with pytest.raises(ImageFailed, match=r"(?s)waited 1 s for /login:/ on the console of tiny\n.*tiny: ready"):
        guest.wait_for_console("login:", 1)
    with pytest.raises(ImageFailed, match=r"waited 1 s for the moon"):
        guest.wait_until("the moon", lambda: False, 1)


def test_the_power_button(guest: VirtualMachine) -> None:
    guest.shutdown(30)
    assert not guest.running
    with pytest.raises(HarnessFailed, match="is off"):
        guest.qmp.execute("query-status")
    with pytest.raises(HarnessFailed, match="takes no input"):
        guest.send_console("x")


def test_a_guest_that_ignores_the_power_button(make: Make) -> None:
    machine = make()
    machine.start()
    with pytest.raises(ImageFailed, match=r"waited 0 s for tiny to switch itself off"):
        machine.shutdown(0)  # the firmware is still at work


def test_reset_starts_the_guest_again(guest: VirtualMachine) -> None:
    guest.send_console("cc")
    guest.wait_for_console("tiny: 2", 30)
    place = guest.console.size()
    guest.reset()
    guest.wait_for_console(READY, 30, since=place)
    guest.send_console("c")
    guest.wait_for_console("tiny: 1", 30, since=place)


def test_a_power_cut_keeps_what_is_on_disk_and_nothing_else(guest: VirtualMachine) -> None:
    guest.send_console("cw")
    guest.wait_for_console("tiny: 1\ntiny: 1\n", 30)
    # The BIOS never flushes a disk; QEMU does when it halts the processors.
    guest.qmp.execute("stop")
    guest.qmp.execute("cont")
    guest.send_console("cc")
    guest.wait_for_console("tiny: 3", 30)
    guest.crash()
    assert not guest.running
    guest.start()
    guest.wait_for_console(READY, 30)
    guest.send_console("l")
    guest.wait_for_console("tiny: 1", 30)


def test_a_snapshot_is_a_moment_of_memory_and_disk(guest: VirtualMachine, bed: Testbed) -> None:
    guest.send_console("ccw")
    guest.wait_for_console("tiny: 2\ntiny: 2\n", 30)
    frozen = guest.snapshot("two")
    for _ in range(2):
        guest.send_console("cw")
        guest.wait_for_console("tiny: 3\ntiny: 3\n", 30)
        guest.restore(frozen)
    # The same moment in another machine, while the first one runs on.
    other = VirtualMachine(bed, "other", guest.image, SMALL)
    other.restore(frozen)
    other.send_console("lc")
    other.wait_for_console("tiny: 2\ntiny: 3\n", 30)
    assert guest.port(22) != other.port(22)
    guest.crash()
    guest.start()
    guest.wait_for_console(READY, 30)
    guest.send_console("l")
    guest.wait_for_console("tiny: 2", 30)


def test_the_image_is_never_written(guest: VirtualMachine) -> None:
    before = hashlib.sha256(guest.image.read_bytes()).hexdigest()
    guest.send_console("cw")
    guest.wait_for_console("tiny: 1\ntiny: 1\n", 30)
    guest.snapshot("one")
    guest.shutdown(30)
    assert hashlib.sha256(guest.image.read_bytes()).hexdigest() == before


@pytest.mark.parametrize("bus", ["virtio-blk", "virtio-scsi"])
def test_disks_grow_and_volumes_are_blank(make: Make, bus: str) -> None:
    hardware = Hardware(
        firmware="bios", memory_mb=64, cpus=1, disk_size_gb=2, disk_bus=bus, volumes=(Volume("data", 1),)
    )  # fmt: skip
    machine = make("big", hardware)
    machine.start()
    machine.wait_for_console(READY, 30)
    sizes = {
        block["device"]: block["inserted"]["image"]["virtual-size"] for block in machine.qmp.execute("query-block")
    }
    assert sizes == {"disk": 2 * disks.GIB, "volume-data": disks.GIB}


def test_a_disk_smaller_than_the_image_is_refused(make: Make) -> None:
    machine = make("small", Hardware(firmware="bios", memory_mb=64, disk_size_gb=0.0001))
    with pytest.raises(HubsmithError, match="is smaller than the image"):
        machine.start()


def test_no_such_image(bed: Testbed) -> None:
    with pytest.raises(HubsmithError, match="no such disk image"):
        VirtualMachine(bed, "x", bed.folder / "none.qcow2")


def test_a_machine_that_qemu_refuses(make: Make) -> None:
    machine = make("odd", Hardware(firmware="bios", memory_mb=64, extra=("-device", "teapot")))
    with pytest.raises(HarnessFailed, match=r"(?s)did not start 'odd'.*teapot"):
        machine.start()


def test_more_memory_than_the_host_has(make: Make) -> None:
    with pytest.raises(HarnessFailed, match="needs 100000000 MiB"):
        make("huge", Hardware(memory_mb=100_000_000)).start()


def test_ports_are_free_and_stay_the_same_unless_somebody_takes_them(guest: VirtualMachine) -> None:
    ports = dict(guest.ports)
    assert len(set(ports.values())) == 3 and all(ports.values())
    guest.crash()
    guest.start()
    assert guest.ports == ports
    guest.crash()
    with socket.socket() as rival:
        rival.bind(("127.0.0.1", ports[443]))
        rival.listen()
        guest.start()
        assert guest.port(443) not in (0, ports[443])


def test_a_port_that_the_user_chose_is_not_changed_in_silence(make: Make) -> None:
    with socket.socket() as rival:
        rival.bind(("127.0.0.1", 0))
        rival.listen()
        port = rival.getsockname()[1]
        machine = make("fixed", Hardware(firmware="bios", memory_mb=64, forwards={443: port}))
        with pytest.raises(HarnessFailed, match="Could not set up host forwarding"):
            machine.start()


def test_a_forwarded_connection_reaches_nobody(guest: VirtualMachine) -> None:
    # There is no network stack in the guest: the connection is accepted by QEMU and leads nowhere.
    with socket.create_connection(("127.0.0.1", guest.port(22)), timeout=2) as connection:
        connection.settimeout(1)
        with pytest.raises(TimeoutError):
            connection.recv(1)


def test_cables_screens_and_refusals(guest: VirtualMachine, tmp_path: Path) -> None:
    guest.set_link(False)
    guest.set_link(True)
    with pytest.raises(QmpRefused, match="nic7"):
        guest.set_link(False, nic=7)
    assert guest.screenshot(tmp_path / "screen.png").read_bytes().startswith(b"\x89PNG")
    guest.send_keys("ctrl", "alt", "delete")


def test_without_a_display_there_is_no_screenshot(make: Make, tmp_path: Path) -> None:
    machine = make("blind", Hardware(firmware="bios", memory_mb=64, display=False))
    machine.start()
    with pytest.raises(QmpRefused):
        machine.screenshot(tmp_path / "screen.png")


def test_the_base_checks_see_a_panic_and_can_allow_it(guest: VirtualMachine) -> None:
    assert problems(guest) == []
    guest.send_console("p")
    guest.wait_for_console("not syncing", 30)
    assert [problem.line for problem in problems(guest)] == ["[ 1.0] Kernel panic - not syncing: tiny"]
    assert problems(guest, [Allowed("not syncing: tiny", "it was asked to")]) == []
    assert problems(guest, since=guest.console.size()) == []


def test_the_probe_boots_a_guest_under_emulation() -> None:
    assert boots(Accelerator("tcg", ""), timeout=120) == (True, "a guest boots")


def test_the_probe_says_why_a_guest_does_not_boot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Accelerator, "arguments", ["-accel", "tcg", "-cpu", "nonesuch"])
    good, why = boots(Accelerator("kvm", ""))
    assert not good and "nonesuch" in why
    monkeypatch.setattr(Accelerator, "arguments", ["-accel", "tcg", "-S"])
    assert boots(Accelerator("kvm", ""), timeout=1) == (False, "a guest did not boot within 1 s")


@pytest.mark.parametrize("name", ["tcg", "kvm"])
def test_the_accelerator_can_be_chosen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUBSMITH_ACCEL", name)
    assert detect().name == name


def test_an_accelerator_that_does_not_exist_cannot_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUBSMITH_ACCEL", "hvf")
    with pytest.raises(HubsmithError, match='unknown accelerator "hvf"'):
        detect()


LASTING = """
import sys
sys.path.insert(0, {tests!r})
import tiny
from pathlib import Path
from hubsmith.vm import Hardware, PersistentMachines, VirtualMachine
base = Path({base!r})
with PersistentMachines(base) as place:
    hardware = Hardware(firmware="bios", memory_mb=64, durable=True)
    machine = VirtualMachine(place, "m", tiny.make_image(base / "i.raw"), hardware)
    machine.start()
    print(machine.pid, machine.port(22), flush=True)
    {then}
"""


@pytest.mark.parametrize("then", ["pass", "import os; os.kill(os.getpid(), 9)"])
def test_a_lasting_machine_outlives_its_command_and_is_taken_over(tmp_path: Path, then: str) -> None:
    code = LASTING.format(tests=str(Path(__file__).parent), base=str(tmp_path), then=then)
    starter = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=False)
    pid, port = map(int, starter.stdout.split())
    with PersistentMachines(tmp_path) as persistent:
        machine = VirtualMachine(persistent, "m", tmp_path / "i.raw", Hardware(firmware="bios", memory_mb=64))
        try:
            assert os.getsid(pid) == pid
            assert machine.adopt()
            assert machine.pid == pid
            machine.wait_for_console(READY, 30)
            assert machine.port(22) == port
            assert machine.qmp.execute("query-status")["status"] == "running"
            machine.shutdown(30)
            assert not machine.running
            assert not machine.adopt()
        finally:
            machine.kill()


def test_a_deep_folder_is_no_obstacle(tmp_path: Path) -> None:
    deep = tmp_path / ("deep" * 30)
    deep.mkdir()
    with Testbed(deep) as bed:
        machine = VirtualMachine(bed, "m", tiny.make_image(bed.folder / "i.raw"), SMALL)
        machine.start()
        machine.wait_for_console(READY, 30)


def _cwd(process: Path) -> str:
    try:
        return str((process / "cwd").readlink())
    except OSError:
        return ""


def _exe(process: Path) -> str:
    try:
        return str((process / "exe").readlink())
    except OSError:
        return ""


CHILD = """
import subprocess, sys, time
sys.path.insert(0, {tests!r})
import tiny
from pathlib import Path
from hubsmith.vm import Hardware, PersistentMachines, Testbed, VirtualMachine
with Testbed(Path({base!r})) as bed:
    machine = VirtualMachine(bed, "m", tiny.make_image(bed.folder / "i.raw"), Hardware(firmware="bios", memory_mb=64))
    machine.start()
    # A child of a child, which no signal to QEMU would reach.
    bed.spawn(["sh", "-c", "sleep 4321 & sleep 4321"], cwd=bed.folder)
    machine.wait_for_console("tiny: ready", 30)
    machine.snapshot("x")
    print("ready", flush=True)
    {then}
"""


@pytest.mark.parametrize(
    ("then", "sign"),
    [
        ("pass", None),
        ("raise ValueError", None),
        ("sys.exit(3)", None),
        ("import os; os._exit(1)", None),
        ("import os; os.abort()", None),
        ("time.sleep(600)", signal.SIGKILL),
        ("time.sleep(600)", signal.SIGTERM),
        ("time.sleep(600)", signal.SIGINT),
    ],
    ids=["end", "exception", "exit", "_exit", "abort", "SIGKILL", "SIGTERM", "SIGINT"],
)
def test_nothing_is_left_however_the_harness_ends(tmp_path: Path, then: str, sign: signal.Signals | None) -> None:
    code = CHILD.format(tests=str(Path(__file__).parent), base=str(tmp_path), then=then)
    harness = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, stderr=subprocess.DEVNULL
    )
    assert harness.stdout is not None
    assert harness.stdout.readline() == "ready\n"
    if sign is not None:
        assert len(_inhabitants(tmp_path)) >= 3
        harness.send_signal(sign)
    harness.wait(60)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and (_inhabitants(tmp_path) or any(tmp_path.iterdir())):
        time.sleep(0.05)
    assert _inhabitants(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def _inhabitants(base: Path) -> list[str]:
    """The processes that work below a folder."""
    return [_exe(process) for process in Path("/proc").glob("[0-9]*") if _cwd(process).startswith(str(base))]


def test_an_abandoned_testbed_is_swept_and_a_living_one_is_not(tmp_path: Path) -> None:
    with Testbed(tmp_path) as living:
        dead = tmp_path / "hubsmith-dead"
        young = tmp_path / "hubsmith-young"
        for folder in (dead, young):
            folder.mkdir()
            (folder / ".owner").touch()
        for folder in (dead, living.folder):
            os.utime(folder, (time.time() - 3600,) * 2)
        with Testbed(tmp_path):
            pass
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted([living.folder.name, "hubsmith-young"])
