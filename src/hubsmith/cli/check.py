"""`hubsmith check`: is a deployment well? The machines' own status, then the checks of their modules."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from hubsmith.deploy.check import COLUMNS, check_machine, module_checks
from hubsmith.deploy.fleet import Fleet, at_once
from hubsmith.paths import project_root


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("file", metavar="FILE", type=Path, help="a file of hosts/")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument("--quick", action="store_true", help="without the checks of the modules")


def main(args: argparse.Namespace) -> int:
    """Run the verb."""
    root = project_root()
    machines = Fleet(root, args.file).machines()
    rows = list(at_once(machines, lambda name, one: check_machine(one)).values())
    good = all(row["Notes"] == "" for row in rows)
    # One after another: they would only take each other's time, and their reports would be mixed.
    for row in rows if not args.quick else ():
        if row["Reachable"] == "yes":
            print(f"{row['Name']}: the checks of its modules", file=sys.stderr, flush=True)
            one = machines[row["Name"]]
            with one.machine() as machine:
                good &= module_checks(root, one.host.image, machine)
    if args.json:
        print(json.dumps(rows, indent=1))
    else:
        table = Table("Name", *COLUMNS, box=None)
        for row in rows:
            table.add_row(row["Name"], *(row[column] for column in COLUMNS))
        Console().print(table)
    return 0 if good else 1
