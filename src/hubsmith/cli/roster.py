"""`hubsmith roster`: create accounts for a class."""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("count", type=int, metavar="N", help="number of accounts")
    parser.add_argument("--url", required=True, help="URL of the hub, printed on every slip")
    parser.add_argument("--prefix", default="student", help="prefix of the names (default: student)")
    parser.add_argument("--first", type=int, default=1, metavar="K", help="first number (default: 1)")
    parser.add_argument(
        "--out", type=Path, default=Path("roster"), metavar="FOLDER", help="output folder (default: roster)"
    )
    parser.add_argument("--json", action="store_true", help="print the files' names as JSON")


def main(args: argparse.Namespace) -> int:
    """Run the verb: write the settings, the slips and the table.

    :raises HubsmithError: the numbers or names are invalid, or the files exist already.
    """
    from hubsmith.definition.schemas import problems_of
    from hubsmith.deploy import roster
    from hubsmith.errors import HubsmithError
    from hubsmith.paths import project_root

    if not 1 <= args.count <= 1000 or args.first < 0:
        raise HubsmithError("the number of accounts must be between 1 and 1000, and the first number 0 or more")
    last = args.first + args.count
    for problem in problems_of(project_root(), "users", [{"name": f"{args.prefix}{last}"}]):
        if problem.key == "users[0].name":
            raise HubsmithError(f"--prefix: {problem.what}")
    people = roster.accounts(args.prefix, range(args.first, last))
    files = roster.write_new(
        args.out,
        {
            "users.toml": roster.as_settings(people), "slips.html": roster.as_page(people, args.url),
            "accounts.csv": roster.as_csv(people, args.url),
        },
    )  # fmt: skip
    print(json.dumps([str(file) for file in files]) if args.json else "\n".join(f"wrote {file}" for file in files))
    return 0
