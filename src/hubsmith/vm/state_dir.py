"""Owners of machines: the interface, and the implementation whose machines outlive the command.

:class:`~hubsmith.vm.testbed.Testbed` is for tests, :class:`PersistentMachines` for deployments.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol

from hubsmith.run import spawn
from hubsmith.vm.switch import PersistentLan

if TYPE_CHECKING:
    from hubsmith.vm.machine import VirtualMachine

QEMU_NAMES = "qemu-system-"


class Process(Protocol):
    """A process: a child, or one that an earlier command started."""

    @property
    def pid(self) -> int:
        """Process ID."""

    def poll(self) -> int | None:
        """Exit code, or None while the process runs."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the process to exit and return its exit code."""


class Network(Protocol):
    """A private network, as a machine uses it."""

    def attach(self, folder: Path, nic: str, member: str) -> None:
        """Connect a NIC of the machine in that folder."""


class StateDir(Protocol):
    """Folder, processes and private networks of some machines.

    :ivar persistent: whether machines keep running when this object is closed.
    """

    folder: Path
    machines: list[VirtualMachine]
    persistent: bool

    def spawn(
        self,
        argv: Sequence[str | Path],
        *,
        cwd: Path | None = None,
        stdin: int | IO[bytes] | None = subprocess.DEVNULL,
        output: Path | None = None,
        pass_fds: Sequence[int] = (),
    ) -> subprocess.Popen[bytes]:
        """Start a program."""

    def lan(self, name: str) -> Network:
        """Return the private network of that name, creating it if necessary."""

    def on_close(self, closer: Callable[[], object]) -> None:
        """Register a function to be called on close."""


class PersistentMachines:
    """Machines that keep running when the command exits; a context manager.

    Processes that only serve the command, such as SSH connections, end with it.

    :param folder: folder of the machines, which is kept.
    """

    persistent = True

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.machines: list[VirtualMachine] = []
        self._helpers: list[subprocess.Popen[bytes]] = []

    def spawn(
        self,
        argv: Sequence[str | Path],
        *,
        cwd: Path | None = None,
        stdin: int | IO[bytes] | None = subprocess.DEVNULL,
        output: Path | None = None,
        pass_fds: Sequence[int] = (),
    ) -> subprocess.Popen[bytes]:
        """Start a program. QEMU outlives the command, other programs end with it."""
        stays = str(argv[0]).startswith(QEMU_NAMES)
        # In its own session QEMU gets no SIGHUP from the terminal. setsid forks if it is a group leader, which would
        # change the process ID: so QEMU gets no group of its own.
        words = ["setsid", *argv] if stays else ["setpriv", "--pdeathsig", "KILL", "--", *argv]
        with output.open("ab") if output else Path(os.devnull).open("wb") as stream:
            child = spawn(
                [str(word) for word in words], cwd=cwd, stdin=stdin, stdout=stream, stderr=stream, pass_fds=pass_fds,
                own_group=not stays,
            )  # fmt: skip
        if not stays:
            self._helpers.append(child)
        return child

    def lan(self, name: str) -> PersistentLan:
        """Return the private network of that name. Its switch keeps running, like the machines."""
        return PersistentLan(self.folder / f"lan-{name}")

    def on_close(self, closer: Callable[[], object]) -> None:
        """Ignore the function: nothing happens to the machines on close."""

    def close(self) -> None:
        """Detach; the machines keep running."""
        for machine in self.machines:
            machine.detach()
        for child in self._helpers:
            child.kill()
            child.wait(10)

    def __enter__(self) -> PersistentMachines:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Adopted:
    """A QEMU process that another process started.

    :param pid: process ID.
    :raises ProcessLookupError: the process does not exist.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._handle = os.pidfd_open(pid)

    @classmethod
    def find(cls, folder: Path) -> Adopted | None:
        """Find the QEMU whose working directory is ``folder``.

        A PID file would be wrong after a crash of the host.
        """
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (process / "exe").readlink().name.startswith(QEMU_NAMES) and (process / "cwd").samefile(folder):
                    found = cls(int(process.name))
                    # Check again now that the handle is open: the process ID could have been reused.
                    if (process / "cwd").samefile(folder):
                        return found
        return None

    @property
    def pid(self) -> int:
        """Process ID."""
        return self._pid

    def poll(self) -> int | None:
        """Return 0 if the process has exited, else None. Only its parent can read the real exit code."""
        return 0 if select.select([self._handle], [], [], 0)[0] else None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the process to exit.

        :raises subprocess.TimeoutExpired: the process is still running.
        """
        if not select.select([self._handle], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired(f"process {self._pid}", timeout or 0)
        return 0

    def __del__(self) -> None:
        with contextlib.suppress(OSError, AttributeError):
            os.close(self._handle)
