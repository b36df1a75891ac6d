"""Start what makes this machine a worker; reads apply's JSON on standard input."""

from __future__ import annotations

import sys

from hubsmith.guest.context import read_context
from hubsmith.guest.programs import run


def main() -> None:
    if read_context()["settings"]["cluster"]["manager"] is None:
        sys.exit("a worker needs the tables and keys of `cluster`: manager, network, secret and pin")
    run("systemctl", "start", "--no-block", "hubsmith-swarm-worker.service", "hubsmith-swarm-leave.service")


if __name__ == "__main__":
    main()
