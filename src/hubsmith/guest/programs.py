"""Helpers for the modules' programs: hooks, status items and services.

Status items run every minute, so this module imports little (not even `typing`).
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path


class Failed(SystemExit):
    """Ends a hook with the reason why the settings are rejected. A service catches it and tries again."""


def run(*argv: object, stdin: str = "", may_end_with: Sequence[int] = (0,), timeout: float | None = None) -> str:
    """Run a program and return its output. Pass secrets on standard input, because arguments are public.

    :param may_end_with: exit codes that are not failures.
    :param timeout: seconds.
    :raises Failed: it ended with another exit code, or the timeout expired.
    """
    try:
        done = subprocess.run(
            [str(one) for one in argv], input=stdin, text=True, capture_output=True, check=False, timeout=timeout
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"{argv[0]} {argv[1]} takes longer than {timeout:.0f} s") from None
    if done.returncode not in may_end_with:
        raise Failed(f"{argv[0]}: {(done.stderr or done.stdout).strip() or f'exit code {done.returncode}'}")
    return done.stdout


def mounted(path: Path) -> tuple[str, str, list[str]]:
    """Return source, type and options of the topmost file system at a mount point; empty if nothing is mounted."""
    for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
        source, target, kind, options, *_ = line.split()
        if target == str(path):
            return source, kind, options.split(",")
    return "", "", []
