"""`hubsmith fetch`: bring locked artifacts into the cache and the Nix store."""

from __future__ import annotations

import argparse
import json
import sys

from hubsmith.definition import image_names
from hubsmith.fetch.run import JOBS, fetch_locks
from hubsmith.lock import inputs_of, locate
from hubsmith.lock.files import load_matching
from hubsmith.lock.inputs import TOOLS
from hubsmith.paths import project_root
from hubsmith.progress import human

HELP = "bring locked artifacts into the cache and the Nix store"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("images", nargs="*", metavar="IMAGE", help="an image; without any: all of them")
    parser.add_argument("--jobs", type=int, default=JOBS, metavar="N", help="parallel transfers (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print what was done as JSON")


def main(args: argparse.Namespace) -> int:
    """Run the verb."""
    root = project_root()
    names = [TOOLS, *(name for name in args.images or image_names(root) if name != TOOLS)]
    locks = [load_matching(locate(root, name).path, inputs_of(root, name)) for name in names]
    report = fetch_locks(locks, jobs=args.jobs)
    if args.json:
        print(json.dumps(report.json(), indent=1))
    else:
        print(
            f"fetch: {report.artifacts} artifacts ({human(report.size)}), {report.downloaded} downloaded, "
            f"{report.added} added to the store, {report.seconds:.1f} s",
            file=sys.stderr,
        )
    return 0
