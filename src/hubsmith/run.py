"""The one door to subprocesses.

Every program that hubsmith starts on the build machine goes through :func:`run` (wait for the end) or
:func:`spawn` (a child that lives on): argument lists only, a scrubbed environment, one replayable log line
per call, and the child's output kept for the error message.
"""

from __future__ import annotations

import logging
import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from hubsmith.errors import HubsmithError

log = logging.getLogger("hubsmith.run")

#: What a child inherits by name. Everything else must be passed in ``env`` on purpose. The second and third
#: group carry the machine's own configuration of its package clients and of its network.
INHERITED = (
    "PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "TERM", "SSH_AUTH_SOCK", "XDG_RUNTIME_DIR", "XDG_CACHE_HOME",
    "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "APT_CONFIG", "NIX_SSL_CERT_FILE",
)  # fmt: skip
INHERITED_PREFIXES = ("PIP_", "npm_config_", "NPM_CONFIG_")


class CommandFailed(HubsmithError):
    """A program ended with an exit code other than 0; keeps its output."""

    def __init__(self, argv: Sequence[str], returncode: int, stdout: str, stderr: str) -> None:
        self.argv, self.returncode, self.stdout, self.stderr = list(argv), returncode, stdout, stderr
        tail = "\n".join((stderr.strip() or stdout.strip()).splitlines()[-15:])
        super().__init__(f"`{shlex.join(argv)}` ended with exit code {returncode}" + (f":\n{tail}" if tail else ""))


def scrubbed(env: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a child: the inherited names, a fixed locale, then ``env``."""
    kept = {k: v for k, v in os.environ.items() if k in INHERITED or k.startswith(INHERITED_PREFIXES)}
    return {**kept, "LC_ALL": "C.UTF-8", **(env or {})}


def run(
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: str | None = None,
    timeout: float | None = None,
    check: bool = True,
    secret: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end and return what it printed.

    :param argv: the program and its arguments; never a shell line.
    :param env: variables on top of the scrubbed environment.
    :param stdin: text for its standard input; without it, standard input is empty.
    :param timeout: seconds until it is killed.
    :param check: raise on an exit code other than 0.
    :param secret: keep the arguments out of the log.
    :raises CommandFailed: it ended with another exit code than 0 and ``check`` is set.
    :raises HubsmithError: the program is not installed, or it took longer than ``timeout``.
    """
    args = [str(a) for a in argv]
    log.debug("%s", f"{args[0]} …" if secret else shlex.join(args))
    # `input` and `stdin` exclude each other in subprocess.run: an absent text is an empty one.
    try:
        done = subprocess.run(
            args, env=scrubbed(env), cwd=cwd, input=stdin or "", text=True, capture_output=True, timeout=timeout
        )
    except FileNotFoundError as error:
        raise HubsmithError(f"the program {args[0]!r} is not installed", mend="scripts/setup") from error
    except subprocess.TimeoutExpired as error:
        raise HubsmithError(f"`{args[0]}` did not end within {timeout:.0f} s") from error
    if check and done.returncode != 0:
        raise CommandFailed([args[0], "…"] if secret else args, done.returncode, done.stdout, done.stderr)
    return done


def spawn(
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: int | IO[bytes] | None = subprocess.DEVNULL,
    stdout: int | IO[bytes] | None = None,
    stderr: int | IO[bytes] | None = None,
    own_group: bool = True,
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start a program that lives on; the caller must end it.

    :param own_group: put it in a process group of its own, so that a Ctrl-C reaches only hubsmith, which then
        ends its children in order.
    :raises HubsmithError: the program is not installed.
    """
    args = [str(a) for a in argv]
    log.debug("%s &", shlex.join(args))
    try:
        return subprocess.Popen(
            args, env=scrubbed(env), cwd=cwd, stdin=stdin, stdout=stdout, stderr=stderr,
            process_group=0 if own_group else None, pass_fds=pass_fds,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise HubsmithError(f"the program {args[0]!r} is not installed", mend="scripts/setup") from error
