"""Real servers on the host for guests: a certificate authority, a name server, an identity provider.

A guest reaches a server that listens on the host's 127.0.0.1 at :attr:`hubsmith.vm.linux.Machine.host_address`, with
the same port; the server reaches the guest at 127.0.0.1 and :meth:`hubsmith.vm.machine.VirtualMachine.port`. Names are
given to the guest by :func:`hosts_entries`.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import socket
import ssl
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from hubsmith.errors import HarnessFailed
from hubsmith.vm.testbed import Testbed, kill
from hubsmith.vm.waits import wait_until


def reserve_port() -> int:
    """A TCP port of 127.0.0.1 for a server that cannot be told to take any.

    It is left in TIME_WAIT, so that for a minute the kernel gives it to nobody who does not ask for this very number;
    a server with SO_REUSEADDR, as all have, can listen on it.
    """
    with socket.socket() as server, socket.socket() as client:
        server.bind(("127.0.0.1", 0))
        server.listen(1)
        client.connect(server.getsockname())
        accepted, _ = server.accept()
        port = int(server.getsockname()[1])
        # The side that closes first is the one that waits.
        accepted.close()
        client.close()
    return port


class HostService:
    """A server on the host that ends with its testbed.

    :param argv: its command; it must stay in the foreground.
    :param port: where it will listen on 127.0.0.1, for :meth:`wait`.
    :param ready: instead, a pattern of its output that says that it is ready.
    """

    def __init__(
        self,
        testbed: Testbed,
        name: str,
        argv: Sequence[str | Path],
        *,
        port: int | None = None,
        ready: str | None = None,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.testbed, self.name, self.argv, self.port, self.ready = testbed, name, list(argv), port, ready
        self.cwd, self.env = cwd, dict(env or {})
        self.log = testbed.folder / f"service-{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, timeout: float = 30) -> HostService:
        """Start it and wait until it is ready.

        :raises HarnessFailed: it ended, or is not ready within ``timeout`` seconds; with the end of its output.
        """
        since = self.log.stat().st_size if self.log.exists() else 0
        settings = [f"{key}={value}" for key, value in self.env.items()]
        self._process = self.testbed.spawn(["env", *settings, *self.argv], cwd=self.cwd, output=self.log)

        def ready() -> bool:
            if self._process is None or self._process.poll() is not None:
                raise HarnessFailed(f"`{shlex.join(map(str, self.argv))}` ended:\n{self.output()[-2000:]}")
            if self.ready:
                return re.search(self.ready, self.output()[since:]) is not None
            if self.port is None:
                return True
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=5):
                return True
            return False

        wait_until(
            f"{self.name} on the host", ready, timeout=timeout, interval=0.05, error=HarnessFailed,
            seen=lambda: self.output()[-2000:],
        )  # fmt: skip
        return self

    def stop(self) -> None:
        """End it; it can be started again."""
        if self._process is not None:
            kill(self._process, grace=5)
            self._process = None

    def output(self) -> str:
        """What it printed, over all of its starts."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""


def hosts_entries(entries: Mapping[str, str]) -> dict[str, object]:
    """A part of a cloud-config that lets the guest know names: name to address.

    As ``bootcmd``, since that runs before the hub's settings are applied.
    """
    lines = "".join(f"{address} {name}\n" for name, address in sorted(entries.items()))
    return {"bootcmd": [["sh", "-c", f"printf %s {shlex.quote(lines)} >> /etc/hosts"]]}


def certificate_of(port: int, name: str = "localhost") -> bytes:
    """The certificate (DER) that a server on the host's 127.0.0.1, or a forwarded one, presents for a name.

    :raises OSError: no connection, or no TLS.
    """
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port), timeout=30) as plain,
        context.wrap_socket(plain, server_hostname=name) as secure,
    ):
        return secure.getpeercert(binary_form=True) or b""
