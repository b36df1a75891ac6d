"""Where machines live: what a machine needs of its testbed, and a place whose machines outlive the command.

:class:`~hubsmith.vm.testbed.Testbed` is the place for tests; :class:`Lasting` the one for deployments.
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
from hubsmith.vm.switch import LastingLan

if TYPE_CHECKING:
    from hubsmith.vm.machine import VirtualMachine

QEMU_NAMES = "qemu-system-"


class Process(Protocol):
    """A running program: a child, or one that an earlier command started."""

    @property
    def pid(self) -> int:
        """Its number."""

    def poll(self) -> int | None:
        """Its exit code, or none while it runs."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end and return its exit code."""


class Network(Protocol):
    """A private network, as a machine sees it."""

    def attach(self, folder: Path, nic: str, member: str) -> None:
        """Put a NIC of the machine of that folder on it."""


class Place(Protocol):
    """What machines live in."""

    folder: Path
    machines: list[VirtualMachine]
    lasting: bool

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
        """The private network of that name."""

    def on_close(self, closer: Callable[[], object]) -> None:
        """Call this when the place is left."""


class Lasting:
    """A folder whose machines go on when the command that started them ends; a context manager.

    What only serves the command, such as its SSH connections, ends with it.

    :param folder: kept, with everything in it.
    """

    lasting = True

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
        """Start a program: QEMU to last, anything else to end with the command."""
        stays = str(argv[0]).startswith(QEMU_NAMES)
        # In a session of its own, no hang-up of the terminal reaches it. setsid would fork, and so change the process
        # id, if it led a group already.
        words = ["setsid", *argv] if stays else ["setpriv", "--pdeathsig", "KILL", "--", *argv]
        with output.open("ab") if output else Path(os.devnull).open("wb") as stream:
            child = spawn(
                [str(word) for word in words], cwd=cwd, stdin=stdin, stdout=stream, stderr=stream, pass_fds=pass_fds,
                own_group=not stays,
            )  # fmt: skip
        if not stays:
            self._helpers.append(child)
        return child

    def lan(self, name: str) -> LastingLan:
        """The private network of that name, whose switch goes on as the machines do."""
        return LastingLan(self.folder / f"lan-{name}")

    def on_close(self, closer: Callable[[], object]) -> None:
        """Nothing happens to machines when the place is left."""

    def close(self) -> None:
        """Let go of the machines, which go on."""
        for machine in self.machines:
            machine.let_go()
        for child in self._helpers:
            child.kill()
            child.wait(10)

    def __enter__(self) -> Lasting:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Adopted:
    """A QEMU that another process started.

    :param pid: its number.
    :raises ProcessLookupError: it is gone.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._handle = os.pidfd_open(pid)

    @classmethod
    def find(cls, folder: Path) -> Adopted | None:
        """The QEMU that works in a folder, if there is one: no file could say so after a crash of the host."""
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (process / "exe").readlink().name.startswith(QEMU_NAMES) and (process / "cwd").samefile(folder):
                    found = cls(int(process.name))
                    # Again, now that the handle holds it: the number could have changed hands.
                    if (process / "cwd").samefile(folder):
                        return found
        return None

    @property
    def pid(self) -> int:
        """Its number."""
        return self._pid

    def poll(self) -> int | None:
        """0 when it has ended: the kernel tells its exit code only to its parent."""
        return 0 if select.select([self._handle], [], [], 0)[0] else None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end.

        :raises subprocess.TimeoutExpired: it did not end.
        """
        if not select.select([self._handle], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired(f"process {self._pid}", timeout or 0)
        return 0

    def __del__(self) -> None:
        with contextlib.suppress(OSError, AttributeError):
            os.close(self._handle)
