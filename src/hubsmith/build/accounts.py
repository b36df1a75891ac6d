"""System accounts of the image: those of the packages, and those that systemd-sysusers adds for the modules."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

from hubsmith.build.rules import ACCOUNTS
from hubsmith.build.tree import Addition

SHADOW_MODE = {"etc/shadow": 0o640, "etc/gshadow": 0o640}


def make(scratch: Path, current: Mapping[str, bytes], sysusers: Mapping[str, bytes], epoch: int) -> dict[str, bytes]:
    """Add the modules' system users and return the account files by path.

    :param scratch: folder to work in.
    :param current: account files of the packages, by path.
    :param sysusers: the modules' `/usr/lib/sysusers.d/*.conf`, by path.
    :param epoch: seconds since 1970. This day becomes every account's date of last password change.
    """
    for path, content in {**current, **sysusers}.items():
        file = scratch / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    if sysusers:
        subprocess.run(
            ["systemd-sysusers", f"--root={scratch}", *sorted(Path(path).name for path in sysusers)], check=True
        )
    made = {path: (scratch / path).read_bytes() for path in ACCOUNTS}
    day = str(epoch // 86400).encode()
    lines = [line.split(b":") for line in made["etc/shadow"].splitlines()]
    made["etc/shadow"] = b"".join(b":".join([*fields[:2], day, *fields[3:]]) + b"\n" for fields in lines)
    return made


def additions(tables: Mapping[str, bytes]) -> list[Addition]:
    """Return the account files as additions to a root, with their modes."""
    shadow = ids(tables["etc/group"])["shadow"]
    return [
        Addition(path, SHADOW_MODE.get(path, 0o644), content, gid=shadow if path in SHADOW_MODE else 0)
        for path, content in tables.items()
    ]


def ids(content: bytes) -> dict[str, int]:
    """Parse a passwd or group file and return the IDs by name."""
    rows = (line.split(":") for line in content.decode().splitlines() if line)
    return {row[0]: int(row[2]) for row in rows}
