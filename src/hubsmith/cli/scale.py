"""`hubsmith scale`: set the number of machines of a host, and bring the deployment up."""

from __future__ import annotations

import argparse
from pathlib import Path

from hubsmith.cli import up
from hubsmith.deploy.fleet import Fleet
from hubsmith.paths import project_root
from hubsmith.progress import Board


def _change(word: str) -> tuple[str, int]:
    name, _, number = word.partition("=")
    if not number.isdecimal() or not 0 <= int(number) <= 50:
        raise argparse.ArgumentTypeError(f"{word!r} is not of the form HOST=NUMBER (0 to 50)")
    return name, int(number)


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("file", metavar="FILE", type=Path, help="a file of hosts/")
    parser.add_argument(
        "change",
        metavar="HOST=N",
        type=_change,
        help="surplus machines are stopped, and deleted unless they hold homes or volumes",
    )
    parser.add_argument(
        "--wait", type=float, default=900, metavar="SECONDS", help="timeout for each machine (default: %(default)s)"
    )


def main(args: argparse.Namespace) -> int:
    """Run the verb."""
    fleet = Fleet(project_root(), args.file)
    name, number = args.change
    with fleet.locked():
        with Board(fleet.hosts_of()) as board:
            fleet.scale(name, number, board.report)
            fleet.up(board.report, wait=args.wait)
        up.print_lines(fleet.notes() + fleet.leftovers())
    return 0
