"""SSH to guests, with their own configuration, key and known hosts: the user's files are not used.

A handshake takes seconds under emulation, so each machine has one shared connection (``ControlMaster``).
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
#: Exit code of ssh when the connection failed.
UNREACHABLE = 255
#: Longest path of a Unix socket, minus the random suffix that ssh adds.
LONGEST_CONTROL = 107 - 18


@dataclass(frozen=True)
class Done:
    """Result of a command in a guest."""

    command: str
    rc: int
    stdout: str
    stderr: str


def write_config(folder: Path, name: str, port: int, user: str, key: Path) -> Path:
    """Write a configuration with which ``ssh -F FILE NAME`` reaches a guest.

    The host key of a new machine is not known in advance. It is accepted once and stored in the machine's folder, so a
    later change is refused.

    :param folder: folder of the machine, which gets the configuration.
    :param name: host name to use with ssh.
    :param port: forwarded port on 127.0.0.1.
    :param user: user to log in as.
    :param key: private key.
    :returns: path of the configuration.
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
        # An emulated guest may stall for a while.
        "  ServerAliveInterval 15",
        "  ServerAliveCountMax 12",
        "  LogLevel ERROR",
        "  ForwardAgent no",
        "  ForwardX11 no",
        # The cheapest ciphers under emulation.
        "  Ciphers aes128-gcm@openssh.com,aes128-ctr,chacha20-poly1305@openssh.com",
        "  Compression no",
    ]
    if len(str(folder / CONTROL)) <= LONGEST_CONTROL:
        lines.append(f'  ControlPath "{folder / CONTROL}"')
    config = folder / CONFIG
    config.write_text("\n".join(lines) + "\n")
    return config


class Ssh:
    """SSH client for one guest.

    :param config: result of :func:`write_config`.
    :param name: host name in the configuration.
    :param spawn: starts the shared connection, and must end it with the machine.
    """

    def __init__(
        self, config: Path, name: str, spawn: Callable[[Sequence[str | Path]], subprocess.Popen[bytes]]
    ) -> None:
        self.config, self.name = config, name
        self._spawn = spawn
        self._master: subprocess.Popen[bytes] | None = None

    def connect(self) -> None:
        """Open the shared connection if it is closed. Commands work without it, but more slowly."""
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
        """Run a shell command. Exit code 255 can mean that the guest cannot be reached.

        :param timeout: seconds.
        :raises hubsmith.errors.HubsmithError: the timeout expired.
        """
        argv: list[str | Path] = ["ssh", "-F", self.config, self.name, "--", command]
        done = run(argv, timeout=timeout, stdin=stdin, check=False)
        return Done(command, done.returncode, done.stdout, done.stderr)


def sudo(command: str) -> str:
    """Wrap a shell command so that it runs as root."""
    return f"sudo -n -- sh -c {shlex.quote(command)}"
