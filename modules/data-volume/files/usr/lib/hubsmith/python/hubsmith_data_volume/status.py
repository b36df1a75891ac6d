"""Status item of the data volume: whether it is writable, if the settings name one."""

from __future__ import annotations

import json
import os
from pathlib import Path

from hubsmith.guest.status.answer import answer

DATA = Path("/var/lib/hubsmith/data")
DATA_FILE = Path("/run/hubsmith/data.json")


def look() -> tuple[str, str]:
    if not DATA_FILE.exists():
        return "ready", "none: homes and state are on the system disk"
    try:
        space = os.statvfs(DATA)
        list(DATA.iterdir())  # statvfs works even if the disk is gone; this does not
    except OSError as error:
        return "failed", f"the data volume cannot be read: {error.strerror}"
    if space.f_flag & os.ST_RDONLY:
        return "failed", "the data volume is for reading only"
    return (
        "ready",
        f"{space.f_blocks * space.f_frsize / 2**30:.1f} GiB at {json.loads(DATA_FILE.read_text())['device']}",
    )


if __name__ == "__main__":
    answer(*look())
