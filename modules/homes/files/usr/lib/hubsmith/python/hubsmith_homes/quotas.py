"""Quotas of the homes: XFS project quotas, with one project per home."""

from __future__ import annotations

import subprocess

from hubsmith.guest.programs import Failed

HOMES = "/home"


def xfs_quota(*commands: str) -> str:
    """Run commands of `xfs_quota` and return the output.

    :raises Failed: it failed. Its exit code is 0 even then, so any output on standard error counts as a failure.
    """
    words = [word for command in commands for word in ("-c", command)]
    done = subprocess.run(["xfs_quota", "-x", *words, HOMES], text=True, capture_output=True, check=False)
    if done.returncode != 0 or done.stderr.strip():
        raise Failed(f"xfs_quota: {(done.stderr or done.stdout).strip() or f'exit code {done.returncode}'}")
    return done.stdout


def report(kind: str) -> dict[int, tuple[int, int]]:
    """Return the use and the hard limit of each project, by ID.

    :param kind: ``-b`` for KiB, ``-i`` for files.
    :raises Failed: quotas are off.
    """
    rows = (line.split() for line in xfs_quota(f"report -p {kind} -N -n").splitlines() if line.startswith("#"))
    return {int(row[0][1:]): (int(row[1]), int(row[3])) for row in rows}
