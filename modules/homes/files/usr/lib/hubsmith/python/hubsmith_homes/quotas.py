"""The quotas of the homes.

Where a home is its user's own, the limit is on what the user owns, anywhere on the file system: nobody can give files
away, but everybody can move their own ones to another project. Where all homes belong to one user, the one of all
containers, the limit is on the home's project; containers cannot change it.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from hubsmith.guest.programs import Failed

HOMES = "/home"
FACTS = Path("/run/hubsmith/facts.json")
#: What `xfs_quota` calls the two kinds.
USER, PROJECT = "u", "p"


def kind() -> str:
    """What limits the homes of this machine: :data:`USER` or :data:`PROJECT`."""
    return PROJECT if json.loads(FACTS.read_text())["home_owner"] else USER


def xfs_quota(*commands: str) -> str:
    """What `xfs_quota` prints; it reports failures with exit code 0.

    :raises Failed: with its own words.
    """
    words = [word for command in commands for word in ("-c", command)]
    done = subprocess.run(["xfs_quota", "-x", *words, HOMES], text=True, capture_output=True, check=False)
    if done.returncode != 0 or done.stderr.strip():
        raise Failed(f"xfs_quota: {(done.stderr or done.stdout).strip() or f'exit code {done.returncode}'}")
    return done.stdout


def report(which: str, what: str) -> dict[int, tuple[int, int]]:
    """Used and hard limit by uid, which is also the number of a home's project.

    :param which: :data:`USER` or :data:`PROJECT`.
    :param what: ``b`` for KiB, ``i`` for files.
    :raises Failed: quotas are off.
    """
    rows = (line.split() for line in xfs_quota(f"report -{which} -{what} -N -n").splitlines() if line.startswith("#"))
    return {int(row[0][1:]): (int(row[1]), int(row[3])) for row in rows}
