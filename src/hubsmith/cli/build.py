"""`hubsmith build`: build an image with Nix, offline."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from hubsmith.build import nix
from hubsmith.paths import project_root

HELP = "build an image"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("image", metavar="IMAGE")
    parser.add_argument("--rebuild", action="store_true", help="make every stage anew, the toolchain too")
    parser.add_argument(
        "--refreshed", action="store_true", help="prefer a lock that `fetch --refresh-if-gone` has made"
    )
    parser.add_argument("--raw", action="store_true", help="write the raw disk too")
    parser.add_argument("--out", type=Path, metavar="DIR", help="the output folder (default: out/IMAGE)")
    parser.add_argument("--json", action="store_true", help="print what was built as JSON")


def main(args: argparse.Namespace) -> int:
    """Run the verb."""
    built = nix.build(project_root(), args.image, refreshed=args.refreshed, rebuild=args.rebuild, out=args.out)
    if args.raw:
        nix.raw(built)
    if args.json:
        print(
            json.dumps(
                {key: str(value) if isinstance(value, Path) else value for key, value in asdict(built).items()},
                indent=1,
            )
        )
    else:
        note = " from a refreshed lock" if built.refreshed else ""
        print(f"{built.file}\nsha256 {built.sha256}{note}, {built.seconds:.1f} s")
    return 0
