"""`hubsmith reboot`: restart machines and wait until they are ready again."""

from __future__ import annotations

import argparse
from pathlib import Path

from hubsmith.deploy.fleet import Fleet
from hubsmith.paths import project_root
from hubsmith.progress import Board


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("file", metavar="FILE", type=Path, help="a file of hosts/")
    parser.add_argument("hosts", metavar="HOST", nargs="+", help="a machine, or a host with all its machines")
    parser.add_argument(
        "--wait", type=float, default=900, metavar="SECONDS", help="timeout for each machine (default: %(default)s)"
    )


def main(args: argparse.Namespace) -> int:
    """Run the verb."""
    fleet = Fleet(project_root(), args.file)
    machines = fleet.chosen(args.hosts)
    with fleet.locked(), Board(machines) as board:
        fleet.reboot(machines, board.report, wait=args.wait)
    return 0
