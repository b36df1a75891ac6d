"""Quotas of the homes: XFS quotas of users or of projects.

If each home belongs to its user, the user's quota limits it. Users can move their own files to another project, but
cannot give them away. If all homes belong to the user of the containers, each home's project quota limits it, since
containers cannot change projects.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from hubsmith.guest.programs import Failed

HOMES = "/home"
FACTS = Path("/run/hubsmith/facts.json")
#: Types of quotas, as options of `xfs_quota`.
USER, PROJECT = "u", "p"


def kind() -> str:
    """Return the type of quota that limits homes on this machine: :data:`USER` or :data:`PROJECT`."""
    return PROJECT if json.loads(FACTS.read_text())["home_owner"] else USER


def xfs_quota(*commands: str) -> str:
    """Run commands of `xfs_quota` and return the output.

    :raises Failed: it failed. Its exit code is 0 even then, so any output on standard error counts as a failure.
    """
    words = [word for command in commands for word in ("-c", command)]
    done = subprocess.run(["xfs_quota", "-x", *words, HOMES], text=True, capture_output=True, check=False)
    if done.returncode != 0 or done.stderr.strip():
        raise Failed(f"xfs_quota: {(done.stderr or done.stdout).strip() or f'exit code {done.returncode}'}")
    return done.stdout


def report(which: str, what: str) -> dict[int, tuple[int, int]]:
    """Return the use and the hard limit of each user or project, by ID. A home's project ID is its user's uid.

    :param which: :data:`USER` or :data:`PROJECT`.
    :param what: ``b`` for KiB, ``i`` for files.
    :raises Failed: quotas are off.
    """
    rows = (line.split() for line in xfs_quota(f"report -{which} -{what} -N -n").splitlines() if line.startswith("#"))
    return {int(row[0][1:]): (int(row[1]), int(row[3])) for row in rows}
