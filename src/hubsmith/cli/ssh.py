"""`hubsmith ssh`: a shell, or one command, on a machine."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from hubsmith.deploy import load_deployment
from hubsmith.deploy.qemu import QemuHost
from hubsmith.deploy.record import Record
from hubsmith.errors import HubsmithError
from hubsmith.paths import project_root
from hubsmith.vm.ssh import write_config

HELP = "open a shell on a machine"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("file", metavar="FILE", type=Path, help="a file of hosts/")
    parser.add_argument("host", metavar="HOST")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND", help="without it: a shell")


def main(args: argparse.Namespace) -> int:
    """Run the verb."""
    deployment = load_deployment(args.file)
    if args.host not in deployment.hosts:
        raise HubsmithError(f"there is no host {args.host!r}: {', '.join(deployment.hosts)}", where=str(args.file))
    record = Record(deployment.deployment.name)
    machine = QemuHost(project_root(), record, args.host, deployment.hosts[args.host]).machine()
    config = write_config(machine.folder, args.host, machine.port(22), machine.user, machine.key)
    os.execvp("ssh", ["ssh", "-F", str(config), "-o", "BatchMode=no", args.host, *args.command])
