"""System accounts of the image: the packages' files plus the modules' sysusers.d, made by the real systemd-sysusers."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

from hubsmith.build.rules import ACCOUNTS
from hubsmith.build.tree import Addition

SHADOW_MODE = {"etc/shadow": 0o640, "etc/gshadow": 0o640}


def make(scratch: Path, current: Mapping[str, bytes], sysusers: Mapping[str, bytes], epoch: int) -> dict[str, bytes]:
    """The account files after the modules' system users were added.

    :param current: the packages' own files, by path.
    :param sysusers: the modules' `/usr/lib/sysusers.d/*.conf`, by path.
    :param epoch: seconds since 1970; the day that it falls on is every account's date of last change.
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
    """The account files as entries of a root, with their modes."""
    shadow = ids(tables["etc/group"])["shadow"]
    return [
        Addition(path, SHADOW_MODE.get(path, 0o644), content, gid=shadow if path in SHADOW_MODE else 0)
        for path, content in tables.items()
    ]


def ids(content: bytes) -> dict[str, int]:
    """Names to numbers of a passwd or group file."""
    rows = (line.split(":") for line in content.decode().splitlines() if line)
    return {row[0]: int(row[2]) for row in rows}
