"""One virtual machine: power, devices and console.

Nothing here depends on the guest's software. :class:`hubsmith.vm.linux.Machine` adds what a Linux guest offers.
"""

from __future__ import annotations

import contextlib
import logging
import re
import shlex
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hubsmith import files
from hubsmith.errors import HarnessFailed, HubsmithError, ImageFailed
from hubsmith.vm import command, disks
from hubsmith.vm.accel import OVMF_VARS, Accelerator, detect
from hubsmith.vm.command import Attachments
from hubsmith.vm.console import Console
from hubsmith.vm.hardware import Hardware
from hubsmith.vm.qmp import QmpClient
from hubsmith.vm.state_dir import Adopted, Process, StateDir
from hubsmith.vm.testbed import free_memory_mb, kill
from hubsmith.vm.waits import scaled, wait_until

log = logging.getLogger("hubsmith.vm")

#: MiB of memory that a new machine must leave to the host.
RESERVE_MB = 512
_STATE = "memory"
#: File with the console offset of the last start, for processes that adopt the machine.
_STARTED = "started-at"


@dataclass(frozen=True)
class Snapshot:
    """A saved machine: memory, disks and firmware variables, in a folder that is never written again."""

    folder: Path
    origin: str
    image: Path
    hardware: Hardware
    attachments: Attachments
    files: tuple[str, ...] = field(default=())


class VirtualMachine:
    """A virtual machine whose disk is an overlay over an image.

    :param testbed: owns the machine's folder and processes.
    :param name: unique in the testbed.
    :param image: disk image, which is never written.
    :param attachments: devices of the metadata source (:mod:`hubsmith.vm.metadata`), with files in ``folder``.
    :raises HubsmithError: the image does not exist.
    """

    def __init__(
        self,
        testbed: StateDir,
        name: str,
        image: Path,
        hardware: Hardware | None = None,
        attachments: Attachments | None = None,
        *,
        accelerator: Accelerator | None = None,
    ) -> None:
        if not image.is_file():
            raise HubsmithError("there is no such disk image", where=str(image), hint="hubsmith build")
        self.testbed, self.name, self.image = testbed, name, image.resolve()
        # MAC addresses are derived from this name. A clone keeps the name of the machine that was saved.
        self.origin = name
        self.hardware = hardware or Hardware()
        self.attachments = attachments or Attachments()
        self.accelerator = accelerator or detect()
        self.folder = testbed.folder / name
        self.folder.mkdir(mode=0o700, exist_ok=True)
        self.console = Console(self.folder / command.CONSOLE_LOG, self.folder / f"{command.CONSOLE}.in")
        self.ports: dict[int, int] = dict(self.hardware.forwards)
        self.started_at = 0
        self._process: Process | None = None
        self._qmp: QmpClient | None = None
        testbed.machines.append(self)
        testbed.on_close(self.kill)

    # Power

    def start(self, *, timeout: float = 30) -> None:
        """Power on. Returns once QEMU runs, long before the guest has booted.

        :raises HarnessFailed: QEMU did not start.
        """
        if self.running:
            return
        self._make_files()
        self._launch(incoming=False, timeout=timeout)

    @property
    def running(self) -> bool:
        """Whether the machine is on."""
        return self._process is not None and self._process.poll() is None

    @property
    def qmp(self) -> QmpClient:
        """Connection to QEMU's monitor.

        :raises HarnessFailed: the machine is off.
        """
        if not self.running:
            raise HarnessFailed(f"the machine {self.name!r} is off")
        if self._qmp is None:
            self._qmp = QmpClient(self.folder / command.MONITOR, self.name)
        return self._qmp

    @property
    def pid(self) -> int:
        """Process ID of QEMU.

        :raises HarnessFailed: the machine is off.
        """
        if self._process is None:
            raise HarnessFailed(f"the machine {self.name!r} is off")
        return self._process.pid

    def adopt(self) -> bool:
        """Attach to a machine that an earlier command started in this folder.

        :returns: whether such a machine is running.
        """
        if self._process is None and (found := Adopted.find(self.folder)):
            self._process = found
            with contextlib.suppress(OSError, ValueError):
                self.started_at = int((self.folder / _STARTED).read_text())
            self.ports = forwarded(self.qmp.human("info usernet"))
            self.detach()
        return self.running

    def detach(self) -> None:
        """Detach: close all connections; the machine keeps running."""
        self._before_freeze()
        self._hang_up()

    def shutdown(self, timeout: float = 120) -> None:
        """Press the power button and wait until the guest has powered off.

        :param timeout: seconds.
        :raises ImageFailed: the guest is still on after ``timeout``.
        """
        if not self.running:
            return
        self.qmp.execute("system_powerdown")
        wait_until(
            f"{self.name} to switch itself off", lambda: not self.running, timeout=timeout, interval=0.1, seen=self.seen
        )
        self._gone()

    def crash(self) -> None:
        """Cut the power. Flushed data survives, other writes may be lost (see :mod:`hubsmith.vm.disks`)."""
        self.kill()

    def kill(self) -> None:
        """Kill QEMU. The machine can be started again."""
        if self._process is not None:
            kill(self._process)
            self._gone()

    def discard(self) -> None:
        """Kill QEMU and delete the machine's folder."""
        self.kill()
        if self in self.testbed.machines:
            self.testbed.machines.remove(self)
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def stalled(self) -> bool:
        """Whether QEMU has stopped the guest because the host's disk is full (:meth:`go_on`)."""
        status = self.qmp.execute("query-status")["status"]
        if self.testbed.persistent:
            self._hang_up()
        return bool(status == "io-error")

    def go_on(self) -> None:
        """Let a stalled guest repeat the write that failed, and continue."""
        self.qmp.execute("cont")

    def reset(self) -> None:
        """Press the reset button."""
        self.qmp.execute("system_reset")

    def alive(self) -> None:
        """Check that the guest can still make progress.

        :raises HarnessFailed: the machine is off, or QEMU crashed.
        :raises ImageFailed: the guest powered itself off, or its console shows a fatal error.
        """
        if self._process is None:
            raise HarnessFailed(f"the machine {self.name!r} is off")
        if (code := self._process.poll()) is not None:
            self._gone()
            if code == 0:
                raise ImageFailed(f"the machine {self.name!r} has switched itself off\n{self.seen()}")
            raise HarnessFailed(
                f"QEMU of {self.name!r} ended with exit code {code}:\n{self._qemu_log()}\n{self.seen()}"
            )
        if line := self.console.fatal(self.started_at):
            raise ImageFailed(f"the machine {self.name!r} is dead: {line}\n{self.seen()}")

    def seen(self, lines: int = 25) -> str:
        """Last lines of the console, for error messages."""
        return f"the end of {self.name}'s console:\n{self.console.tail(lines, self.started_at) or '(nothing)'}"

    # Snapshots

    def snapshot(self, label: str, *, resume: bool = True, timeout: float = 120) -> Snapshot:
        """Save the running machine.

        QEMU writes its state and exits. With ``resume``, a new QEMU continues from that state.

        :param timeout: seconds for writing the memory.
        :raises HarnessFailed: QEMU cannot write its state.
        """
        self._before_freeze()
        folder = self.testbed.folder / f"snapshot-{label}"
        folder.mkdir()
        self.qmp.execute("stop")
        # In bytes/s. The default of 128 MiB/s is meant for networks.
        self.qmp.execute("migrate-set-parameters", max_bandwidth=2**40)
        self.qmp.execute("migrate", uri=f"exec:cat > {shlex.quote(str(folder / _STATE))}")

        def written() -> bool:
            progress = self.qmp.execute("query-migrate")
            if progress["status"] == "failed":
                raise HarnessFailed(f"the state of {self.name!r} could not be written: {progress.get('error-desc')}")
            return bool(progress["status"] == "completed")

        wait_until(f"the state of {self.name}", written, timeout=timeout, interval=0.05, error=HarnessFailed)
        self.kill()
        disk_files = [command.DISK, *(command.volume_file(volume.name) for volume in self.hardware.volumes)]
        if self.hardware.firmware == "uefi":
            disk_files.append(command.VARS)
        for name in disk_files:
            (self.folder / name).rename(folder / name)
        for name in self.attachments.drives:
            shutil.copyfile(self.folder / name, folder / name)
        frozen = Snapshot(folder, self.origin, self.image, self.hardware, self.attachments, tuple(disk_files))
        if resume:
            self.restore(frozen)
        return frozen

    def restore(self, snapshot: Snapshot, *, timeout: float = 60) -> None:
        """Return to a snapshot of this machine, or of one with the same hardware.

        :raises HarnessFailed: QEMU cannot read the state.
        """
        self.kill()
        for name in snapshot.files:
            (self.folder / name).unlink(missing_ok=True)
            if name == command.VARS:
                shutil.copyfile(snapshot.folder / name, self.folder / name)
            else:
                disks.overlay(snapshot.folder / name, self.folder / name)
        for name in snapshot.attachments.drives:
            shutil.copyfile(snapshot.folder / name, self.folder / name)
        self.origin, self.hardware, self.attachments = snapshot.origin, snapshot.hardware, snapshot.attachments
        self._launch(incoming=True, timeout=timeout)
        self.qmp.execute("migrate-incoming", uri=f"exec:cat {shlex.quote(str(snapshot.folder / _STATE))}")

        def read() -> bool:
            self.alive()
            # The machine was paused when it was saved, so it comes back paused.
            return bool(self.qmp.execute("query-status")["status"] == "paused")

        wait_until(f"{self.name} to be restored", read, timeout=timeout, interval=0.05, error=HarnessFailed)
        self.qmp.execute("cont")
        self._after_restore()

    def _before_freeze(self) -> None:
        """Hook for subclasses: close connections into the guest."""

    def _after_restore(self) -> None:
        """Hook for subclasses: repair what the jump in time broke, such as the clock."""

    # Devices

    @property
    def mac(self) -> str:
        """MAC address of the first NIC."""
        return command.mac(self.origin, 0)

    def port(self, guest: int) -> int:
        """Port on the host's 127.0.0.1 that is forwarded to a guest port.

        :raises HarnessFailed: the machine is off, or the port is not forwarded.
        """
        if not self.ports.get(guest):
            raise HarnessFailed(f"port {guest} of {self.name!r} is not forwarded, or the machine is off")
        return self.ports[guest]

    def set_link(self, up: bool, nic: int = 0) -> None:
        """Plug in or unplug a NIC's network cable."""
        self.qmp.execute("set_link", name=f"nic{nic}", up=up)

    def screenshot(self, file: Path) -> Path:
        """Write a screenshot of the graphics adapter as PNG.

        :raises HarnessFailed: the machine is off, or has no graphics adapter.
        """
        self.qmp.execute("screendump", filename=str(file.resolve()), format="png")
        return file

    def send_console(self, text: str) -> None:
        """Type on the serial console."""
        self.console.send(text)

    def send_keys(self, *keys: str) -> None:
        """Press several keys at once, by QEMU's names: ``send_keys("ctrl", "alt", "delete")``."""
        self.qmp.execute("send-key", keys=[{"type": "qcode", "data": key} for key in keys])

    # Waiting

    def wait_until(self, what: str, check: Callable[[], object], timeout: float, interval: float = 0.25) -> None:
        """Wait for a condition; fails at once if the guest dies.

        :param what: what is waited for, for the error message.
        :param check: the condition.
        :param timeout: seconds.
        :param interval: seconds between two checks.
        :raises ImageFailed: the guest died, or the timeout expired.
        """
        wait_until(what, check, timeout=timeout, interval=interval, alive=self.alive, seen=self.seen)

    def wait_for_console(
        self, pattern: str | re.Pattern[str], timeout: float, since: int | None = None
    ) -> re.Match[str]:
        """Wait for a match in the console output.

        :param since: console offset to search from; by default the machine's last start.
        :raises ImageFailed: the guest died, or the timeout expired.
        """
        start = self.started_at if since is None else since
        text = pattern.pattern if isinstance(pattern, re.Pattern) else pattern
        # A panic may be what is waited for: do not let `alive` fail before the match is seen.
        return wait_until(
            f"/{text}/ on the console of {self.name}",
            lambda: self.console.search(pattern, start),
            timeout=timeout, interval=0.1, seen=self.seen,
            alive=lambda: None if self.console.search(pattern, start) else self.alive(),
        )  # fmt: skip

    # Internals

    def _make_files(self) -> None:
        if not (self.folder / command.DISK).exists():
            disks.overlay(self.image, self.folder / command.DISK, self.hardware.disk_size_gb)
        for volume in self.hardware.volumes:
            if not (self.folder / command.volume_file(volume.name)).exists():
                disks.blank(self.folder / command.volume_file(volume.name), volume.size_gb)
        if self.hardware.firmware == "uefi" and not (self.folder / command.VARS).exists():
            partial = self.folder / f"{command.VARS}.part"
            shutil.copyfile(OVMF_VARS, partial)
            files.settle(partial, self.folder / command.VARS)

    def _launch(self, *, incoming: bool, timeout: float) -> None:
        if free_memory_mb() < self.hardware.memory_mb + RESERVE_MB:
            raise HarnessFailed(
                f"{self.name!r} needs {self.hardware.memory_mb} MiB of memory, the host has {free_memory_mb()} MiB left"
            )
        try:
            self._try_launch(self.ports, incoming, timeout)
        except _PortTaken:
            # A port chosen by the kernel at an earlier start is taken now. Ports chosen by the user are kept.
            fresh = {guest: self.hardware.forwards[guest] for guest in self.ports}
            if fresh == self.ports:
                raise
            log.info("%s: a forwarded port is in use, choosing others", self.name)
            self._try_launch(fresh, incoming, timeout)
        listening = forwarded(self.qmp.human("info usernet"))
        self.ports = {guest: listening[guest] for guest in self.ports}
        if self.testbed.persistent:
            self.detach()

    def _try_launch(self, ports: Mapping[int, int], incoming: bool, timeout: float) -> None:
        for name in (command.MONITOR, command.AGENT):
            (self.folder / name).unlink(missing_ok=True)
        self.console.prepare()
        self.plug_in()
        argv = command.command(
            self.name, self.hardware, self.accelerator, self.attachments, ports, origin=self.origin, incoming=incoming
        )
        output = self.folder / "qemu.log"
        output.write_text(shlex.join(argv) + "\n")
        self.started_at = self.console.size()
        (self.folder / _STARTED).write_text(str(self.started_at))
        process = self._process = self.testbed.spawn(argv, cwd=self.folder, output=output)
        deadline = time.monotonic() + scaled(timeout)
        while True:
            if process.poll() is not None:
                self._gone()
                text = self._qemu_log()
                kind = _PortTaken if "Could not set up host forwarding" in text else HarnessFailed
                raise kind(f"QEMU did not start {self.name!r} (exit code {process.poll()}):\n{text}")
            with contextlib.suppress(HarnessFailed):
                if (self.folder / command.MONITOR).exists():
                    self._qmp = QmpClient(self.folder / command.MONITOR, self.name)
                    return
            if time.monotonic() > deadline:
                self.kill()
                raise HarnessFailed(f"QEMU did not start {self.name!r} within {timeout:.0f} s:\n{self._qemu_log()}")
            time.sleep(0.02)

    def plug_in(self) -> None:
        """Connect the NICs to their private networks."""
        for number, name in enumerate(self.hardware.lans, start=1):
            self.testbed.lan(name).attach(self.folder, f"net{number}", self.name)

    def _qemu_log(self, lines: int = 15) -> str:
        path = self.folder / "qemu.log"
        return "\n".join(path.read_text(errors="replace").splitlines()[1:][-lines:]) if path.exists() else ""

    def _gone(self) -> None:
        self._process = None
        self._hang_up()

    def _hang_up(self) -> None:
        # QEMU's monitor serves one client at a time.
        if self._qmp is not None:
            self._qmp.close()
            self._qmp = None


class _PortTaken(HarnessFailed):
    """A forwarded host port is in use."""


def forwarded(usernet: str) -> dict[int, int]:
    """Parse the human monitor's ``info usernet``: guest ports and their host ports."""
    # TCP[HOST_FORWARD]  12       127.0.0.1 40931       10.0.2.15    22     0     0
    line = re.compile(r"TCP\[HOST_FORWARD\]\s+\S+\s+\S+\s+(\d+)\s+\S+\s+(\d+)")
    return {int(guest): int(host) for host, guest in line.findall(usernet)}
