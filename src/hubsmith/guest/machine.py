"""Description of the machine for templates and hooks."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path
from typing import Any

from hubsmith.run import run

#: Instance data of cloud-init, world-readable and without sensitive parts.
INSTANCE_DATA = Path("/run/cloud-init/instance-data.json")


def _addresses() -> list[str]:
    links = json.loads(run(["ip", "-json", "address", "show", "up"]).stdout or "[]")
    found = [a for link in links for a in link.get("addr_info", ()) if a.get("scope") == "global"]
    return sorted({a["local"] for a in found})


def _public_ipv4(instance_data: Path) -> str:
    """Return the public address; empty if unknown. A machine behind a cloud's NAT learns it from metadata only."""
    try:
        ds = json.loads(instance_data.read_text()).get("ds", {})
    except (OSError, ValueError):
        return ""
    for metadata in (ds.get("ec2_metadata"), ds.get("meta_data")):
        if isinstance(metadata, dict) and isinstance(value := metadata.get("public-ipv4"), str):
            return value
    return ""


def uptime() -> float:
    """Return the seconds since the machine started. Setting the clock does not affect it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def describe() -> dict[str, Any]:
    """Return host name, addresses, memory (bytes) and number of processors."""
    return {
        "hostname": socket.gethostname(),
        "addresses": _addresses(),
        "public_ipv4": _public_ipv4(INSTANCE_DATA),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "cpus": len(os.sched_getaffinity(0)),
    }
