"""`hubsmith ssh-for-each`: run a command on several machines in parallel."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from hubsmith.deploy.fleet import Fleet, at_once
from hubsmith.deploy.qemu import QemuMachine
from hubsmith.paths import project_root
from hubsmith.vm.ssh import Done


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("file", metavar="FILE", type=Path, help="a file of hosts/")
    parser.add_argument(
        "--on", metavar="HOST", action="append", default=[], help="only on this machine or host; may be repeated"
    )
    parser.add_argument(
        "--timeout", type=float, default=600, metavar="SECONDS", help="timeout on each machine (default: %(default)s)"
    )
    parser.add_argument("command", metavar="COMMAND", help="shell line, run by the operator's account")


def main(args: argparse.Namespace) -> int:
    """Run the verb.

    :returns: 0 if the command succeeded everywhere.
    """

    def work(name: str, one: QemuMachine) -> Done:
        with one.running() as machine:
            return machine.execute(args.command, root=False, timeout=args.timeout)

    done = at_once(Fleet(project_root(), args.file).chosen(args.on), work)
    for name, one in done.items():
        for stream, text in ((sys.stdout, one.stdout), (sys.stderr, one.stderr)):
            for line in text.splitlines():
                print(f"{name}: {line}", file=stream)
        if one.rc:
            print(f"{name}: exit code {one.rc}", file=sys.stderr)
    return 1 if any(one.rc for one in done.values()) else 0
