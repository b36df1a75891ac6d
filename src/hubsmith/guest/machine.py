"""What the machine is, as templates and hooks see it."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path
from typing import Any

from hubsmith.run import run

#: Written by cloud-init for everybody to read; what is sensitive is left out of it.
INSTANCE_DATA = Path("/run/cloud-init/instance-data.json")


def _addresses() -> list[str]:
    links = json.loads(run(["ip", "-json", "address", "show", "up"]).stdout or "[]")
    found = [a for link in links for a in link.get("addr_info", ()) if a.get("scope") == "global"]
    return sorted({a["local"] for a in found})


def _public_ipv4(instance_data: Path) -> str:
    """The public address, which a machine behind a cloud's NAT learns only from metadata; empty when unknown."""
    try:
        ds = json.loads(instance_data.read_text()).get("ds", {})
    except (OSError, ValueError):
        return ""
    for metadata in (ds.get("ec2_metadata"), ds.get("meta_data")):
        if isinstance(metadata, dict) and isinstance(value := metadata.get("public-ipv4"), str):
            return value
    return ""


def uptime() -> float:
    """Seconds since the machine started. It goes on evenly when the clock is set."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def describe() -> dict[str, Any]:
    """Host name, addresses, memory (bytes) and processors."""
    return {
        "hostname": socket.gethostname(),
        "addresses": _addresses(),
        "public_ipv4": _public_ipv4(INSTANCE_DATA),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "cpus": len(os.sched_getaffinity(0)),
    }
