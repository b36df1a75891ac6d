"""Unprivileged namespaces for servers: their own root, processes, and a network with only loopback."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from hubsmith.errors import HarnessFailed
from hubsmith.run import CommandFailed, run, spawn

#: Sets up the namespaces: an overlay for files that the servers write, and loopback.
SETUP = """
set -e
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work,userxattr" "$2/root"
mount --rbind /dev "$2/root/dev"
mount -t proc proc "$2/root/proc"
for folder in run tmp; do mount -t tmpfs tmpfs "$2/root/$folder"; done
chmod 1777 "$2/root/tmp"
ip link set lo up
echo ready
exec sleep infinity
"""


class Namespace:
    """Namespaces whose processes are killed on close; a context manager.

    :param root: root file system, which is not modified.
    :param folder: folder for files that are written.
    :raises HarnessFailed: the namespaces cannot be created.
    """

    def __init__(self, root: Path, folder: Path) -> None:
        for name in ("upper", "work", "root"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        self.folder, self.root = folder, folder / "root"
        self._holder = spawn(
            ["unshare", "--user", "--map-root-user", "--net", "--mount", "--pid", "--fork", "--kill-child",
             "sh", "-c", SETUP, "sh", root.resolve(), folder.resolve()],
            stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self._holder.stdout
        if self._holder.stdout.readline().strip() != b"ready":
            self.close()
            raise HarnessFailed("cannot create the namespaces for the servers", where=str(folder))
        children = Path(f"/proc/{self._holder.pid}/task/{self._holder.pid}/children").read_text().split()
        self.pid = int(children[0])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Kill all processes. The files are kept."""
        self._holder.kill()
        self._holder.wait()
        if self._holder.stdout:
            self._holder.stdout.close()

    def outside(self, argv: Sequence[str | Path]) -> list[str | Path]:
        """Wrap a command so that it uses this computer's files and the namespaces' network."""
        return ["nsenter", f"--target={self.pid}", "--user", "--preserve-credentials", "--net", "--", *argv]

    def _inside(self, argv: Sequence[str | Path]) -> list[str | Path]:
        into = ["--user", "--preserve-credentials", "--net", "--mount", "--pid"]
        return ["nsenter", f"--target={self.pid}", *into, "--", "chroot", self.root.resolve(), *argv]

    def run(
        self, argv: Sequence[str | Path], *, env: Mapping[str, str] | None = None, stdin: str | None = None,
        timeout: float = 300,
    ) -> str:  # fmt: skip
        """Run a command inside and return its output.

        :param timeout: seconds.
        :raises HarnessFailed: the command failed.
        """
        try:
            return run(self._inside(argv), env={"PATH": PATH, **(env or {})}, stdin=stdin, timeout=timeout).stdout
        except CommandFailed as error:
            raise HarnessFailed(str(error)) from error

    def spawn(self, name: str, argv: Sequence[str | Path], env: Mapping[str, str] | None = None) -> Server:
        """Start a server inside, with its output in `NAME.log`."""
        log = self.folder / f"{name}.log"
        with log.open("ab") as stream:
            process = spawn(self._inside(argv), env={"PATH": PATH, **(env or {})}, stdout=stream, stderr=stream)
        return Server(name, process, log)


PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Server:
    """A server in the namespaces."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.name, self.process, self.log = name, process, log

    def wait(self, answers: Sequence[str | Path], timeout: float = 120) -> None:
        """Wait until a command succeeds, such as a request to the server.

        :param timeout: seconds.
        :raises HarnessFailed: the server exited, or the timeout expired.
        """
        deadline = time.monotonic() + timeout
        while run(answers, check=False).returncode:
            ended = self.process.poll() is not None
            if ended or time.monotonic() > deadline:
                what = "ended" if ended else f"does not answer within {timeout:.0f} s"
                words = "\n".join(self.log.read_text(errors="replace").splitlines()[-30:])
                raise HarnessFailed(f"{self.name} {what}:\n{words}", where=str(self.log))
            time.sleep(0.2)
