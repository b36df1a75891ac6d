"""Limit the memory of all notebook servers together, so that enough is left for the machine itself."""

from __future__ import annotations

import sys

from hubsmith.guest.context import read_context
from hubsmith.guest.programs import run

MIB = 1024**2
#: Measured use of the system, NGINX, the hub, its proxy and its culler, with reserve for 100 connected users.
LEAST_RESERVE = 640 * MIB


def main() -> None:
    memory = read_context()["machine"]["memory"]
    limit = memory - max(LEAST_RESERVE, memory // 12)
    if limit < 192 * MIB:
        needed = (LEAST_RESERVE + 192 * MIB) // MIB
        sys.exit(f"{memory // MIB} MiB of memory are not enough for a hub: {needed} are needed")
    limits = (f"MemoryMax={limit}", f"MemoryHigh={limit - 64 * MIB}")
    run("systemctl", "set-property", "--runtime", "hubsmith-users.slice", *limits)


if __name__ == "__main__":
    main()
