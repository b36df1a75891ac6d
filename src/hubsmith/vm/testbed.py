"""Temporary machines, networks and host services that are removed together.

They are removed even if Python is killed by SIGKILL:

- The kernel kills every child when the thread that started it dies (``PR_SET_PDEATHSIG``). One thread, which lives as
  long as the process, starts all children.
- A keeper process (:mod:`hubsmith.vm.keeper`) waits for a lock that this process holds. When this process dies, the
  keeper gets the lock, kills remaining descendants, and deletes the folder. It finds them by a second lock file, which
  they have inherited as an open file.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING

from hubsmith import files
from hubsmith.errors import HarnessFailed
from hubsmith.run import run, spawn
from hubsmith.vm import keeper
from hubsmith.vm.lan import Lan
from hubsmith.vm.state_dir import Process

if TYPE_CHECKING:
    from hubsmith.vm.machine import VirtualMachine

log = logging.getLogger("hubsmith.vm")

PREFIX = "hubsmith-"

#: Its only thread starts all children (see above) and lives until Python exits.
_starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="starter")
#: Machines of one folder are made by several threads.
_key_pair = threading.Lock()


class Testbed:
    """Folder of temporary machines and their processes; a context manager.

    :param base: parent of the folder; by default the system's temporary directory. Snapshots hold the memory of
        machines, so several GB should be free.
    """

    persistent = False
    __test__ = False  # not a test class, whatever pytest thinks of its name

    def __init__(self, base: Path | None = None) -> None:
        base = base or Path(tempfile.gettempdir())
        sweep(base)
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
        self._members = os.open(self.folder / keeper.MEMBERS, os.O_CREAT | os.O_RDWR, 0o600)
        self._owner = os.open(self.folder / keeper.OWNER, os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(self._owner, fcntl.LOCK_EX)
        self._children: list[subprocess.Popen[bytes]] = []
        self._lans: dict[str, Lan] = {}
        #: Machines that were created and not discarded, in order of creation.
        self.machines: list[VirtualMachine] = []
        self._closers: list[Callable[[], object]] = []
        self._closed = False
        # In its own session, so that it gets no signals for our process group or terminal.
        self._keeper = spawn(
            ["setsid", sys.executable, "-I", "-S", keeper.__file__, self.folder],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, own_group=False,
        )  # fmt: skip
        atexit.register(self.close)

    def spawn(
        self,
        argv: Sequence[str | Path],
        *,
        cwd: Path | None = None,
        stdin: int | IO[bytes] | None = subprocess.DEVNULL,
        output: Path | None = None,
        pass_fds: Sequence[int] = (),
    ) -> subprocess.Popen[bytes]:
        """Start a program that ends with the testbed, whatever happens.

        :param output: file for its output; by default the output is discarded.
        :raises HarnessFailed: the testbed is closed.
        """
        if self._closed:
            raise HarnessFailed(f"cannot start {argv[0]}: the testbed is closed")
        with contextlib.ExitStack() as stack:
            stream = stack.enter_context(output.open("ab")) if output else subprocess.DEVNULL
            child = _starter.submit(
                spawn, ["setpriv", "--pdeathsig", "KILL", "--", *argv], cwd=cwd, stdin=stdin, stdout=stream,
                stderr=stream, pass_fds=(self._members, *pass_fds),
            ).result()  # fmt: skip
        self._children = [other for other in self._children if other.poll() is None] + [child]
        return child

    def lan(self, name: str) -> Lan:
        """Return the private network of that name, creating it if necessary."""
        if name not in self._lans:
            made = self._lans[name] = Lan(name)
            self.on_close(made.close)
        return self._lans[name]

    def on_close(self, closer: Callable[[], object]) -> None:
        """Register a function to be called on close, before children are killed, in reverse order."""
        self._closers.append(closer)

    def close(self) -> None:
        """Stop everything and delete the folder. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        atexit.unregister(self.close)
        problems = []
        for closer in reversed(self._closers):
            try:
                closer()
            except Exception as error:
                problems.append(error)
        for child in reversed(self._children):
            kill(child)
        os.close(self._members)
        os.close(self._owner)
        self._keeper.wait(timeout=30)
        if problems:
            raise HarnessFailed(f"closing the testbed: {'; '.join(str(problem) for problem in problems)}")

    def __enter__(self) -> Testbed:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def kill(child: Process, grace: float = 0.0) -> int:
    """Kill a process that leads a process group, with the whole group.

    :param grace: seconds between SIGTERM and SIGKILL; 0 for SIGKILL at once.
    :returns: exit code.
    """
    # The process ID of a process that was waited for may belong to another process by now.
    if (code := child.poll()) is not None:
        return code
    if grace:
        os.kill(child.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return child.wait(grace)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    return child.wait(30)


def sweep(base: Path) -> None:
    """Delete folders of testbeds that were left behind by a crash of the host."""
    for folder in base.glob(f"{PREFIX}*/"):
        with contextlib.suppress(OSError), (folder / keeper.OWNER).open() as owner:
            # A new testbed may not have its lock yet. If the lock is held, the owner is alive.
            if time.time() - folder.stat().st_mtime > 60:
                fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
                log.debug("removing the abandoned %s", folder)
                shutil.rmtree(folder, ignore_errors=True)


def free_memory_mb() -> int:
    """MiB of memory available to new processes (``MemAvailable`` of ``/proc/meminfo``)."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("MemAvailable:"))) // 1024


def ssh_key(folder: Path) -> Path:
    """Return the private key for this testbed's guests, creating the key pair if necessary."""
    key = folder / "id_ed25519"
    with _key_pair:
        if not key.exists():
            # An interrupted command leaves no private key without its public one.
            with tempfile.TemporaryDirectory(dir=folder, prefix=".key.") as made:
                new = Path(made) / key.name
                run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "hubsmith", "-f", new], timeout=60)
                for suffix in (".pub", ""):
                    files.settle(new.with_suffix(suffix), key.with_suffix(suffix))
    return key
