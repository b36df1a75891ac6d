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
    parser.add_argument("images", nargs="*", metavar="IMAGE", help="an image (default: all)")
    parser.add_argument("--rebuild", action="store_true", help="build every stage again, including the toolchain")
    parser.add_argument("--refreshed", action="store_true", help="prefer the lock of `fetch --refresh-if-gone`")
    parser.add_argument("--raw", action="store_true", help="also write the raw disk")
    parser.add_argument("--out", type=Path, metavar="DIR", help="output folder of one image (default: out/IMAGE)")
    parser.add_argument("--json", action="store_true", help="print a JSON object per image")


def main(args: argparse.Namespace) -> int:
    """Run the verb.

    :raises HubsmithError: an image cannot be built, or ``--out`` was given for several images.
    """
    root = project_root()
    images = args.images or image_names(root)
    if args.out and len(images) > 1:
        raise HubsmithError("--out needs exactly one image")
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
