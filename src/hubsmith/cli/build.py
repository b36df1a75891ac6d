"""`hubsmith build`: build images with Nix, offline."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from hubsmith.build import nix
from hubsmith.definition import define, image_names
from hubsmith.errors import HubsmithError
from hubsmith.paths import project_root
from hubsmith.plan.templates import check


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("images", nargs="*", metavar="IMAGE", help="an image; without any: all of them")
    parser.add_argument("--rebuild", action="store_true", help="make every stage anew, the toolchain too")
    parser.add_argument(
        "--refreshed", action="store_true", help="prefer a lock that `fetch --refresh-if-gone` has made"
    )
    parser.add_argument("--raw", action="store_true", help="write the raw disk too")
    parser.add_argument("--out", type=Path, metavar="DIR", help="the output folder of one image (default: out/IMAGE)")
    parser.add_argument("--json", action="store_true", help="print what was built as JSON, a line each")


def main(args: argparse.Namespace) -> int:
    """Run the verb.

    :raises HubsmithError: an image cannot be built, or several are to be built in one folder.
    """
    root = project_root()
    images = args.images or image_names(root)
    if args.out and len(images) > 1:
        raise HubsmithError("--out is the folder of one image")
    for image in images:
        check(define(root, image))
        built = nix.build(root, image, refreshed=args.refreshed, rebuild=args.rebuild, out=args.out)
        if args.raw:
            nix.raw(built)
        if args.json:
            print(json.dumps(asdict(built), default=str))
        else:
            note = " from a refreshed lock" if built.refreshed else ""
            print(f"{built.file}\nsha256 {built.sha256}{note}, {built.seconds:.1f} s")
    return 0
