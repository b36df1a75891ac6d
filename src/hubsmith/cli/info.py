"""`hubsmith info`: list a deployment's machines."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from rich.console import Console
from rich.table import Table

from hubsmith.cli.up import print_lines
from hubsmith.deploy.fleet import Fleet, at_once
from hubsmith.paths import project_root

COLUMNS = {"name": "Name", "status": "Status", "type": "Type", "id": "Resource Id", "ip": "IP", "url": "URL"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("file", metavar="FILE", type=Path, help="a file of hosts/")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--plain", action="store_true", help="print tab-separated values without a heading")
    how.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--credentials", action="store_true", help="also print the one-time passwords and the next steps"
    )


def main(args: argparse.Namespace) -> int:
    """Run the verb."""
    fleet = Fleet(project_root(), args.file)
    rows = list(at_once(fleet.machines(), lambda name, one: one.status()).values())
    rows += at_once(fleet.obsolete(), lambda name, one: one.obsolete()).values()
    if args.json:
        known = fleet.record.read("credentials.json") if args.credentials else {}
        print(
            json.dumps(
                [{**row, **({"credentials": known.get(row["name"], {})} if known else {})} for row in rows], indent=1
            )
        )
        return 0
    if args.plain:
        for row in rows:
            print("\t".join(row.values()))
    else:
        table = Table(box=None, pad_edge=False, collapse_padding=True)
        for name, heading in COLUMNS.items():
            # Never shorten addresses: on a narrow terminal, other columns are wrapped instead.
            table.add_column(heading, no_wrap=name not in ("type", "id"), overflow="fold")
        for row in rows:
            table.add_row(*row.values())
        Console().print(table)
        print_lines(fleet.notes() + fleet.leftovers())
    if args.credentials:
        print(fleet.first_steps({row["name"]: row["url"] for row in rows}))
    return 0
