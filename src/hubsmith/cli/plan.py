"""`hubsmith plan`: print an image's manifest."""

from __future__ import annotations

import argparse
import sys

from hubsmith.definition import define, image_names
from hubsmith.paths import project_root
from hubsmith.plan import dumps, golden
from hubsmith.plan.images import manifest_of
from hubsmith.plan.summary import summary
from hubsmith.plan.templates import check


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("images", nargs="*", metavar="IMAGE", help="an image (default: all)")
    parser.add_argument("--json", action="store_true", help="print the whole manifest (of one image)")
    parser.add_argument(
        "--largest", type=int, default=10, metavar="N", help="number of largest packages to list (default: %(default)s)"
    )
    parser.add_argument("--refreshed", action="store_true", help="use the lock of `fetch --refresh-if-gone`")
    parser.add_argument("--write-golden", action="store_true", help="write tests/golden/<image>.manifest.sha256")


def main(args: argparse.Namespace) -> int:
    """Run the verb."""
    root = project_root()
    names = args.images or image_names(root)
    for name in names:
        check(define(root, name))
        manifest = manifest_of(root, name, refreshed=args.refreshed)
        text = dumps(manifest)
        if args.write_golden:
            changed = golden.write(root, name, text)
            print(f"{name}: {'written' if changed else 'unchanged'}: {golden.path_of(root, name).relative_to(root)}")
        elif args.json:
            sys.stdout.write(text)
        else:
            print(summary(manifest, golden.line(name, text).split()[0], args.largest))
    return 0
