"""`hubsmith check`: show the status of a deployment's machines, and run the checks of their modules."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from hubsmith.deploy.check import COLUMNS, Check, as_json, check_machine, counts, module_checks
from hubsmith.deploy.fleet import Fleet, at_once
from hubsmith.paths import project_root


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("file", metavar="FILE", type=Path, help="a file of hosts/")
    parser.add_argument("--json", action="store_true", help="print machines and checks as JSON")
    parser.add_argument("--quick", action="store_true", help="skip the checks of the modules")
    parser.add_argument(
        "--wait",
        type=float,
        default=300,
        metavar="SECONDS",
        help="wait for items that are still starting (default: %(default)s)",
    )
    parser.add_argument("-v", action="store_true", dest="details", help="show seconds, and tracebacks of failures")


def main(args: argparse.Namespace) -> int:
    """Run the verb."""
    root = project_root()
    machines = Fleet(root, args.file).machines()
    rows: list[dict[str, Any]] = list(
        at_once(machines, lambda name, one: check_machine(one, _say, wait=args.wait)).values()
    )
    good = all(row["Notes"] == "" for row in rows)
    found: dict[str, list[Check]] = {}
    # One after another: in parallel, they would only slow each other down.
    for row in rows if not args.quick else ():
        if row["Reachable"] == "yes":
            one = machines[row["Name"]]
            _say(one.name, "the checks of its modules")
            with one.machine() as machine:
                found[one.name] = module_checks(
                    root, one.host.image, machine, lambda check: _say_check(check, details=args.details)
                )
    good &= all(check.outcome != "failed" for checks in found.values() for check in checks)
    if args.json:
        checks = {name: [as_json(check) for check in some] for name, some in found.items()}
        print(json.dumps([row | {"Checks": checks.get(row["Name"], [])} for row in rows], indent=1))
        return 0 if good else 1
    table = Table("Name", *COLUMNS, box=None)
    for row in rows:
        table.add_row(row["Name"], *(row[column] for column in COLUMNS))
    console = Console()
    console.print(table)
    if found:
        console.print(_summary(found))
    return 0 if good else 1


def _say(name: str, line: str) -> None:
    print(f"{name}: {line}", file=sys.stderr, flush=True)


def _say_check(check: Check, *, details: bool) -> None:
    """Print a line when a check has ended, with the location of a failure."""
    text = f"  {check.outcome:<7}  {check.module}: {check.name}"
    text += f"  ({check.seconds:.1f} s)" if details else ""
    text += f": {check.reason}" if check.reason else ""
    if details and check.details:
        text += "\n" + "\n".join(f"    {line}" for line in check.details.splitlines())
    print(text, file=sys.stderr, flush=True)


def _summary(found: dict[str, list[Check]]) -> Table:
    """Return a table of the outcomes per module and machine."""
    table = Table("Name", "Module", "Passed", "Failed", "Skipped", box=None)
    for name, checks in found.items():
        per_module = counts(checks)
        for module, number in per_module.items():
            table.add_row(name, module, *(str(number[key]) for key in ("passed", "failed", "skipped")))
        total = [sum(number[key] for number in per_module.values()) for key in ("passed", "failed", "skipped")]
        table.add_row(name, "all", *map(str, total))
    return table
