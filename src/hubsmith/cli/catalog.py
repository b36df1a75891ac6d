"""`hubsmith catalog`: list, show and retire published images."""

from __future__ import annotations

import argparse
import json

from rich.console import Console
from rich.table import Table

from hubsmith.catalog.base import Entry, chosen
from hubsmith.catalog.publish import retire
from hubsmith.cli.publish import add_cloud, catalog_of
from hubsmith.progress import human


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    verbs = parser.add_subparsers(dest="what", required=True)
    one = "IMAGE (its newest active version), IMAGE@VERSION, or an ID"
    for name, about in (
        ("list", "list all images"), ("show", "show one image"), ("retire", "take an image out of the lists"),
    ):  # fmt: skip
        verb = verbs.add_parser(name, help=about, description=about)
        if name != "list":
            verb.add_argument("name", metavar="NAME", help=one)
        if name == "retire":
            verb.add_argument(
                "--delete", action="store_true", help="delete the image instead of hiding it, unless it is in use"
            )
        add_cloud(verb)
        verb.add_argument("--json", action="store_true", help="print JSON")


def main(args: argparse.Namespace) -> int:
    """Run the verb."""
    catalog = catalog_of(args.cloud)
    entries = catalog.entries()
    if args.what == "list":
        print(json.dumps([one.row() for one in entries], indent=1)) if args.json else _table(entries)
        return 0
    entry = chosen(entries, args.name)
    if args.what == "show":
        row = entry.row()
        print(json.dumps(row, indent=1) if args.json else "\n".join(f"{key:12} {row[key]}" for key in row))
        return 0
    done = retire(catalog, entry, delete=args.delete)
    print(json.dumps({"id": entry.id, "done": done}) if args.json else f"{entry.name}: {done}")
    return 0


def _table(entries: list[Entry]) -> None:
    table = Table(box=None, pad_edge=False, collapse_padding=True)
    for heading in ("Image", "Version", "State", "Visibility", "Size", "Id"):
        table.add_column(heading, no_wrap=heading == "Id", overflow="fold")  # IDs must stay copyable
    for one in entries:
        table.add_row(one.image, one.version, one.state, one.visibility, human(one.size), one.id)
    Console().print(table)
