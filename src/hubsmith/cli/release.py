"""`hubsmith release`: create signed releases of proven images."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from hubsmith.paths import project_root
from hubsmith.release.make import make
from hubsmith.release.signature import default_key


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("images", nargs="+", metavar="IMAGE")
    parser.add_argument(
        "--version",
        metavar="V",
        help="version (default: the date of the newest package and a part of the manifest's checksum)",
    )
    parser.add_argument(
        "--key", type=Path, metavar="FILE", help="OpenSSH key that signs (default: ~/.config/hubsmith/release_key)"
    )
    parser.add_argument(
        "--since", type=Path, metavar="FOLDER", help="release that the notes compare with (default: the last one)"
    )
    parser.add_argument("--json", action="store_true", help="print the releases' folders as JSON")


def main(args: argparse.Namespace) -> int:
    """Run the verb."""
    root, folders = project_root(), {}
    for image in args.images:

        def progress(line: str, image: str = image) -> None:
            print(f"release {image}: {line}", file=sys.stderr, flush=True)

        release = make(
            root, image, key=args.key or default_key(), progress=progress, version=args.version, since=args.since
        )
        folders[image] = str(release.folder)
    print(json.dumps(folders, indent=1) if args.json else "\n".join(folders.values()))
    return 0
