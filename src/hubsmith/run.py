"""Start subprocesses: the only module that does so on the build machine.

:func:`run` waits for a program, :func:`spawn` starts one that keeps running. Both take argument lists, never shell
lines. The environment is reduced to a known set of variables. Each call logs one line that can be pasted into a shell,
and output is kept for the error message.
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

#: Variables that children inherit. Others must be passed in ``env``. The second and third line, and the prefixes, carry
#: this computer's configuration of its network and its package clients.
INHERITED = (
    "PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "TERM", "SSH_AUTH_SOCK", "XDG_RUNTIME_DIR", "XDG_CACHE_HOME",
    "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "APT_CONFIG", "NIX_SSL_CERT_FILE",
)  # fmt: skip
INHERITED_PREFIXES = ("PIP_", "npm_config_", "NPM_CONFIG_")


class CommandFailed(HubsmithError):
    """A program failed. Keeps its exit code and output."""

    def __init__(self, argv: Sequence[str], returncode: int, stdout: str, stderr: str) -> None:
        self.argv, self.returncode, self.stdout, self.stderr = list(argv), returncode, stdout, stderr
        tail = "\n".join((stderr.strip() or stdout.strip()).splitlines()[-15:])
        super().__init__(f"`{shlex.join(argv)}` failed with exit code {returncode}" + (f":\n{tail}" if tail else ""))


def scrubbed(env: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of a child: inherited variables, a fixed locale, and ``env``."""
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
    """Run a program, wait for it, and return its output.

    :param argv: program and arguments.
    :param env: variables in addition to :func:`scrubbed`.
    :param cwd: working directory.
    :param stdin: text for standard input, which is empty by default.
    :param timeout: seconds until the program is killed.
    :param check: raise an error if the exit code is not 0.
    :param secret: keep the arguments out of the log and of errors.
    :raises CommandFailed: the exit code is not 0 and ``check`` is set.
    :raises HubsmithError: the program is not installed, or the timeout expired.
    """
    args = [str(a) for a in argv]
    log.debug("%s", f"{args[0]} …" if secret else shlex.join(args))
    # Without `input`, the child would inherit our standard input.
    try:
        done = subprocess.run(
            args, env=scrubbed(env), cwd=cwd, input=stdin or "", text=True, capture_output=True, timeout=timeout
        )
    except FileNotFoundError as error:
        raise HubsmithError(f"the program {args[0]!r} is not installed", hint="scripts/setup") from error
    except subprocess.TimeoutExpired as error:
        raise HubsmithError(f"`{args[0]}` did not finish within {timeout:.0f} s") from error
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
    """Start a program without waiting for it. The caller must stop it.

    :param argv: program and arguments.
    :param env: variables in addition to :func:`scrubbed`.
    :param cwd: working directory.
    :param own_group: start a new process group, so that Ctrl-C reaches only hubsmith, which then stops its children in
        order.
    :param pass_fds: file descriptors to inherit.
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
        raise HubsmithError(f"the program {args[0]!r} is not installed", hint="scripts/setup") from error
