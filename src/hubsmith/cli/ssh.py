"""`hubsmith ssh`: open a shell on a machine, or run one command."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path

from hubsmith.deploy.fleet import Fleet
from hubsmith.errors import HubsmithError
from hubsmith.paths import project_root


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("file", metavar="FILE", type=Path, help="a file of hosts/")
    parser.add_argument("host", metavar="HOST", nargs="?", help="machine; needed if there are several")
    parser.add_argument(
        "command", nargs=argparse.REMAINDER, metavar="COMMAND", help="command to run (default: a shell)"
    )


def main(args: argparse.Namespace) -> int:
    """Run the verb: replace this process by `ssh`."""
    machines = Fleet(project_root(), args.file).machines()
    name = args.host or (next(iter(machines)) if len(machines) == 1 else None)
    if name not in machines:
        what = f"there is no machine {name!r}" if name else "which machine?"
        raise HubsmithError(f"{what} There are: {', '.join(machines)}", where=str(args.file))
    config = machines[name].ssh_config()
    # Several words are quoted and stay words in the guest. A single word is a shell line, as with ssh itself.
    line = args.command[0] if len(args.command) == 1 else shlex.join(args.command)
    command = ["--", line] if args.command else []
    sys.stdout.flush()
    os.execvp("ssh", ["ssh", "-F", str(config), "-o", "ControlPath=none", name, *command])
