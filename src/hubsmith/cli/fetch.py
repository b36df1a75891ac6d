"""`hubsmith fetch`: bring locked artifacts into the cache and the Nix store."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from hubsmith.archives import JOBS
from hubsmith.definition import image_names
from hubsmith.fetch.obtain import obtain
from hubsmith.fetch.run import Fetcher
from hubsmith.paths import project_root


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("images", nargs="*", metavar="IMAGE", help="an image (default: all)")
    parser.add_argument("--jobs", type=int, default=JOBS, metavar="N", help="parallel transfers (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print what was done as JSON")
    parser.add_argument(
        "--from", dest="pack", type=Path, metavar="PACK", help="from a file of `hubsmith archive`, offline"
    )
    parser.add_argument(
        "--refresh-if-gone",
        action="store_true",
        help="if artifacts are gone from the archives, solve again and use that lock; the committed one is unchanged",
    )


def main(args: argparse.Namespace) -> int:
    """Run the verb."""
    root = project_root()
    images = args.images or image_names(root)
    if args.pack:
        from hubsmith.fetch.pack import unpack

        report = unpack(args.pack, root, args.images)
    else:
        report = obtain(root, images, Fetcher(jobs=args.jobs), refresh_if_gone=args.refresh_if_gone)
    if args.json:
        print(json.dumps(report.json(), indent=1))
    else:
        print(
            f"fetch: {report.artifacts} artifacts ({report.size / 1e6:.1f} MB), {report.downloaded} downloaded, "
            f"{report.added} added to the store, {report.seconds:.1f} s",
            file=sys.stderr,
        )
    return 0
