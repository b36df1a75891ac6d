"""`hubsmith down`: stop a deployment."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from hubsmith.deploy.fleet import Fleet
from hubsmith.paths import project_root
from hubsmith.progress import Board


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("file", metavar="FILE", type=Path, help="a file of hosts/")
    parser.add_argument(
        "hosts", metavar="HOST", nargs="*", help="machines or hosts, including obsolete ones (default: all)"
    )
    parser.add_argument(
        "--delete",
        action="store_true",
        help="also delete disks, homes and volumes; without HOST, those of all machines",
    )


def main(args: argparse.Namespace) -> int:
    """Run the verb."""
    fleet = Fleet(project_root(), args.file)
    with fleet.locked():
        with Board(fleet.chosen(args.hosts, obsolete=True)) as board:
            # Machines that are deleted need no orderly shutdown.
            fleet.down(board.report, orderly=not args.delete, only=args.hosts, delete=args.delete)
        if args.delete and not args.hosts:
            fleet.record.forget()
            print(f"{fleet.deployment.deployment.name}: disks and passwords deleted", file=sys.stderr)
    return 0
