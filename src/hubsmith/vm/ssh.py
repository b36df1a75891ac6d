"""SSH into throw-away guests: a configuration, key and known hosts of their own, nothing of the user's.

Under emulation a handshake takes seconds, so one connection per machine is kept open and shared (``ControlMaster``).
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hubsmith.run import run

CONFIG = "ssh_config"
CONTROL = "ssh.sock"
KNOWN_HOSTS = "known_hosts"
#: ssh's own exit code when the connection failed.
UNREACHABLE = 255
#: The longest path of a unix socket, less the random suffix of ssh.
LONGEST_CONTROL = 107 - 18


@dataclass(frozen=True)
class Done:
    """What a command in a guest did."""

    command: str
    rc: int
    stdout: str
    stderr: str


def write_config(folder: Path, name: str, port: int, user: str, key: Path) -> Path:
    """Write the configuration by which ``ssh -F FILE NAME`` reaches a guest.

    The host key of a machine that is new at every run cannot be known in advance; it is kept in the machine's folder,
    so that a change during its life is refused.
    """
    lines = [
        f"Host {name}",
        "  HostName 127.0.0.1",
        f"  Port {port}",
        f"  User {user}",
        f'  IdentityFile "{key}"',
        "  IdentitiesOnly yes",
        "  PasswordAuthentication no",
        "  BatchMode yes",
        "  StrictHostKeyChecking accept-new",
        f"  HostKeyAlias {name}",
        f'  UserKnownHostsFile "{folder / KNOWN_HOSTS}"',
        "  GlobalKnownHostsFile /dev/null",
        "  ConnectTimeout 60",
        # An emulated guest may stall for a while without being dead.
        "  ServerAliveInterval 15",
        "  ServerAliveCountMax 12",
        "  LogLevel ERROR",
        "  ForwardAgent no",
        "  ForwardX11 no",
        # The cheapest there are for a processor that is emulated.
        "  Ciphers aes128-gcm@openssh.com,aes128-ctr,chacha20-poly1305@openssh.com",
        "  Compression no",
    ]
    if len(str(folder / CONTROL)) <= LONGEST_CONTROL:
        lines.append(f'  ControlPath "{folder / CONTROL}"')
    config = folder / CONFIG
    config.write_text("\n".join(lines) + "\n")
    return config


class Ssh:
    """Commands in one guest.

    :param config: from :func:`write_config`.
    :param name: the host's name in it.
    :param spawn: starts the shared connection; it must end it with the machine.
    """

    def __init__(
        self, config: Path, name: str, spawn: Callable[[Sequence[str | Path]], subprocess.Popen[bytes]]
    ) -> None:
        self.config, self.name = config, name
        self._spawn = spawn
        self._master: subprocess.Popen[bytes] | None = None

    def connect(self) -> None:
        """Open the shared connection, unless it is open; commands work without it, but slower."""
        if self._master is None or self._master.poll() is not None:
            (self.config.parent / CONTROL).unlink(missing_ok=True)
            self._master = self._spawn(["ssh", "-F", self.config, "-o", "ControlMaster=yes", "-N", self.name])

    def close(self) -> None:
        """Close the shared connection."""
        if self._master is not None:
            self._master.kill()
            self._master.wait(10)
            self._master = None
        (self.config.parent / CONTROL).unlink(missing_ok=True)

    def run(self, command: str, *, timeout: float = 60, stdin: str | None = None) -> Done:
        """Run a shell command; an exit code of 255 can mean that the guest cannot be reached.

        :raises hubsmith.errors.HubsmithError: it took longer than ``timeout`` seconds.
        """
        argv: list[str | Path] = ["ssh", "-F", self.config, self.name, "--", command]
        done = run(argv, timeout=timeout, stdin=stdin, check=False)
        return Done(command, done.returncode, done.stdout, done.stderr)


def sudo(command: str) -> str:
    """The same command as root, in a shell."""
    return f"sudo -n -- sh -c {shlex.quote(command)}"
