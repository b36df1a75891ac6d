"""The quotas of the homes: XFS project quotas, a project for each home."""

from __future__ import annotations

import subprocess

from hubsmith.guest.programs import Failed

HOMES = "/home"


def xfs_quota(*commands: str) -> str:
    """What `xfs_quota` prints; it reports failures with exit code 0.

    :raises Failed: with its own words.
    """
    words = [word for command in commands for word in ("-c", command)]
    done = subprocess.run(["xfs_quota", "-x", *words, HOMES], text=True, capture_output=True, check=False)
    if done.returncode != 0 or done.stderr.strip():
        raise Failed(f"xfs_quota: {(done.stderr or done.stdout).strip() or f'exit code {done.returncode}'}")
    return done.stdout


def report(kind: str) -> dict[int, tuple[int, int]]:
    """Used and hard limit by project id.

    :param kind: ``-b`` for KiB, ``-i`` for files.
    :raises Failed: quotas are off.
    """
    rows = (line.split() for line in xfs_quota(f"report -p {kind} -N -n").splitlines() if line.startswith("#"))
    return {int(row[0][1:]): (int(row[1]), int(row[3])) for row in rows}
