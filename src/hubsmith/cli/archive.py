"""`hubsmith archive`: pack all inputs of an image into one file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from hubsmith.fetch.pack import pack
from hubsmith.paths import project_root


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("image", metavar="IMAGE")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="output file (default: IMAGE.pack.tar)")
    parser.add_argument("--refreshed", action="store_true", help="pack the locks of `fetch --refresh-if-gone`")


def main(args: argparse.Namespace) -> int:
    """Run the verb."""
    target = args.output or Path(f"{args.image}.pack.tar")
    size = pack(project_root(), args.image, target, refreshed=args.refreshed)
    print(f"{target}: {size / 1e6:.1f} MB; `hubsmith fetch --from {target}` takes it in", file=sys.stderr)
    return 0
