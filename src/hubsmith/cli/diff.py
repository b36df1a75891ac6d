"""`hubsmith diff A B`: compare two manifests, two built images, two disks or two roots."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from hubsmith.inspect.diff import Change, compare


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    kinds = "a manifest, a folder of a built image, a disk (raw or qcow2), or a root (EROFS or tar)"
    parser.add_argument("before", type=Path, metavar="A", help=kinds)
    parser.add_argument("after", type=Path, metavar="B", help="likewise")
    parser.add_argument("--json", action="store_true", help="print the differences as JSON")
    parser.add_argument(
        "--largest", type=int, default=10, metavar="N", help="number of largest changes of size to list (default: 10)"
    )


def main(args: argparse.Namespace) -> int:
    """Run the verb.

    :returns: 0 if the two are equal, 1 if they differ.
    :raises NotComparable: they cannot be compared (exit code 2).
    """
    changes = compare(args.before, args.after)
    if args.json:
        print(json.dumps([change.json() for change in changes], indent=1, sort_keys=True))
    else:
        for change in changes:
            print(change.text())
        _sizes(changes, args.largest)
    return 1 if changes else 0


def _sizes(changes: list[Change], count: int) -> None:
    # If there are entries of a root, listing packages as well would count them twice.
    files = any(change.thing.startswith("entry ") for change in changes)
    grown = [change for change in changes if change.growth and change.thing.startswith("entry ") == files]
    if not grown:
        return
    print(f"\n{sum(change.growth for change in grown) / 1e6:+.1f} MB in all; the largest:")
    for change in sorted(grown, key=lambda one: (-abs(one.growth), one.thing))[:count]:
        print(f"  {change.growth / 1e6:+8.1f} MB  {change.thing}")
