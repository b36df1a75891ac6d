"""`hubsmith check`: is a deployment well? The machines' own status, then the checks of their modules."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from hubsmith.deploy import load_deployment
from hubsmith.deploy.check import COLUMNS, check_host, module_checks
from hubsmith.deploy.qemu import QemuHost
from hubsmith.deploy.record import Record
from hubsmith.paths import project_root

HELP = "check a deployment's machines"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("file", metavar="FILE", type=Path, help="a file of hosts/")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument("--quick", action="store_true", help="without the checks of the modules")


def main(args: argparse.Namespace) -> int:
    """Run the verb."""
    root = project_root()
    deployment = load_deployment(args.file)
    record = Record(deployment.deployment.name)
    rows, good = [], True
    for name, host in deployment.machines().items():
        one = QemuHost(root, record, name, host)
        row = check_host(one)
        rows.append(row)
        good &= row["Notes"] == ""
        if not args.quick and row["Reachable"] == "yes":
            print(f"{name}: the checks of its modules", file=sys.stderr, flush=True)
            with one.machine() as machine:
                good &= module_checks(root, host.image, machine)
    if args.json:
        print(json.dumps(rows, indent=1))
    else:
        table = Table("Name", *COLUMNS, box=None)
        for row in rows:
            table.add_row(row["Name"], *(row[column] for column in COLUMNS))
        Console().print(table)
    return 0 if good else 1
