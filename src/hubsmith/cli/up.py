"""`hubsmith up`: start a deployment and wait until it is ready."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from hubsmith.deploy.fleet import Fleet
from hubsmith.deploy.qemu import Replacing
from hubsmith.paths import project_root
from hubsmith.progress import Board


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("file", metavar="FILE", type=Path, help="a file of hosts/")
    parser.add_argument(
        "--wait", type=float, default=900, metavar="SECONDS", help="timeout for each machine (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print what was done as JSON")


def main(args: argparse.Namespace) -> int:
    """Run the verb."""
    return bring_up(args, Replacing.NEVER)


def print_lines(lines: Iterable[str]) -> None:
    """Print notes for the user besides the result."""
    for line in lines:
        print(line, file=sys.stderr, flush=True)


def bring_up(args: argparse.Namespace, replacing: Replacing, only: Sequence[str] = ()) -> int:
    """Bring machines up and print what was done.

    :param only: names of machines or hosts; by default all.
    """
    fleet = Fleet(project_root(), args.file)
    deploying = replacing is not Replacing.NEVER
    with fleet.locked():
        print_lines(fleet.notes() if deploying else fleet.notes() + fleet.leftovers())
        with Board(fleet.chosen(only, obsolete=deploying)) as board:
            done = fleet.up(board.report, wait=args.wait, replacing=replacing, only=only)
    urls = {name: machine.status()["url"] for name, machine in fleet.machines().items()}
    if args.json:
        rows = [
            {"name": name, "done": what, "url": urls[name], "seconds": seconds}
            for name, (what, seconds) in done.items()
        ]
        print(json.dumps(rows, indent=1))
    elif any(what != "is up already" for what, _ in done.values()):
        print(fleet.first_steps(urls))
    return 0
