"""`hubsmith scp`: copy files from or to a machine."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from hubsmith.deploy.fleet import Fleet
from hubsmith.errors import HubsmithError
from hubsmith.paths import project_root


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("file", metavar="FILE", type=Path, help="a file of hosts/")
    parser.add_argument("-r", dest="recursive", action="store_true", help="copy folders recursively")
    parser.add_argument("paths", metavar="PATH", nargs="+", help="sources and target; HOST:PATH is on a machine")


def main(args: argparse.Namespace) -> int:
    """Run the verb: replace this process by `scp`."""
    names = {path.split(":", 1)[0] for path in args.paths if ":" in path}
    if len(names) != 1 or len(args.paths) < 2:
        raise HubsmithError("copies are between this computer and one machine: `PATH… HOST:PATH` or `HOST:PATH… PATH`")
    [(_, host)] = Fleet(project_root(), args.file).chosen(names).items()
    options = ["-F", str(host.ssh_config()), "-o", "ControlPath=none", *(["-r"] if args.recursive else [])]
    os.execvp("scp", ["scp", *options, *args.paths])
