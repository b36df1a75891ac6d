"""A folder of machines, networks and host services that vanish together.

They vanish also when Python dies of SIGKILL, which nothing of ours can notice:

- the kernel sends SIGKILL to every child when the thread that started it dies (``PR_SET_PDEATHSIG``); all of them are
  started by one thread that lives as long as the process;
- a keeper (:mod:`hubsmith.vm.keeper`) waits for a lock that this process holds and gets it at its death. It ends what
  is left, such as children of children, which it knows by a second lock that they inherited, and removes the folder.
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
from hubsmith.vm.place import Process

if TYPE_CHECKING:
    from hubsmith.vm.machine import VirtualMachine

log = logging.getLogger("hubsmith.vm")

PREFIX = "hubsmith-"

#: Its one thread starts all children of the process, see above. Python ends it only when it ends itself.
_starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="starter")
#: Machines of one folder are made by several threads.
_key_pair = threading.Lock()


class Testbed:
    """The folder, and what runs in it; a context manager.

    :param base: where the folder is made; by default the system's folder for temporary files. It takes the memory
        images of snapshots, so it should have some gigabytes.
    """

    lasting = False
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
        #: Every machine that was made here and not discarded, in order.
        self.machines: list[VirtualMachine] = []
        self._closers: list[Callable[[], object]] = []
        self._closed = False
        # In a session of its own, so that no signal to our process group or terminal reaches it.
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

        :param output: file that gets what it prints; by default it is dropped.
        :raises HarnessFailed: the testbed is closed.
        """
        if self._closed:
            raise HarnessFailed(f"the testbed is closed; {argv[0]} is not started")
        with contextlib.ExitStack() as stack:
            stream = stack.enter_context(output.open("ab")) if output else subprocess.DEVNULL
            child = _starter.submit(
                spawn, ["setpriv", "--pdeathsig", "KILL", "--", *argv], cwd=cwd, stdin=stdin, stdout=stream,
                stderr=stream, pass_fds=(self._members, *pass_fds),
            ).result()  # fmt: skip
        self._children = [other for other in self._children if other.poll() is None] + [child]
        return child

    def lan(self, name: str) -> Lan:
        """The private network of that name; made when it is first asked for, closed at the end."""
        if name not in self._lans:
            made = self._lans[name] = Lan(name)
            self.on_close(made.close)
        return self._lans[name]

    def on_close(self, closer: Callable[[], object]) -> None:
        """Call this at the end, before the children are killed; the last one first."""
        self._closers.append(closer)

    def close(self) -> None:
        """End everything and remove the folder. Can be called again."""
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
    """End a program that leads a process group, with all of that group.

    :param grace: seconds that it gets after SIGTERM before SIGKILL.
    :returns: its exit code.
    """
    # A program that was collected has given back its number, which may be somebody else's by now.
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
    """Remove the folders of testbeds whose keeper could not, since the host itself went down."""
    for folder in base.glob(f"{PREFIX}*/"):
        with contextlib.suppress(OSError), (folder / keeper.OWNER).open() as owner:
            # A young one may be about to get its lock; the other error is its owner's, who lives.
            if time.time() - folder.stat().st_mtime > 60:
                fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
                log.debug("removing the abandoned %s", folder)
                shutil.rmtree(folder, ignore_errors=True)


def free_memory_mb() -> int:
    """What the host can give to new processes, in MiB (``MemAvailable`` of ``/proc/meminfo``)."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("MemAvailable:"))) // 1024


def ssh_key(folder: Path) -> Path:
    """Make a key pair for this run's guests, once, and return the private key's file."""
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
