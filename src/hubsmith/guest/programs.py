"""Shared by the modules' programs: hooks of apply, status items and services.

Status items run every minute: this imports little (not even `typing`).
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

#: Who owns the homes of people whose servers are containers: all notebook images run as this user and group.
CONTAINERS = (1000, 100)


class Failed(SystemExit):
    """Ends a hook with a sentence, which is the reason of a refused apply; a service catches it and tries again."""


def run(*argv: object, stdin: str = "", may_end_with: Sequence[int] = (0,), timeout: float | None = None) -> str:
    """What a program prints. Secrets go through its standard input: everybody sees its arguments.

    :param timeout: seconds.
    :raises Failed: it ended otherwise than it may, or took too long.
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
    """Source, file system and options of what is mounted at a path last; empty when nothing is."""
    for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
        source, target, kind, options, *_ = line.split()
        if target == str(path):
            return source, kind, options.split(",")
    return "", "", []
