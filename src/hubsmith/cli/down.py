"""`hubsmith down`: stop a deployment."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from hubsmith.deploy import load_deployment
from hubsmith.deploy.qemu import QemuHost
from hubsmith.deploy.record import Record
from hubsmith.paths import project_root

HELP = "stop a deployment"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("file", metavar="FILE", type=Path, help="a file of hosts/")
    parser.add_argument("--delete", action="store_true", help="delete its disks, homes and passwords too")


def main(args: argparse.Namespace) -> int:
    """Run the verb."""
    deployment = load_deployment(args.file)
    record = Record(deployment.deployment.name)
    with record.locked():
        for name, host in deployment.machines().items():
            print(f"{name}: {QemuHost(project_root(), record, name, host).down()}", file=sys.stderr, flush=True)
        if args.delete:
            record.forget()
            print(f"{deployment.deployment.name}: disks and passwords deleted", file=sys.stderr)
    return 0
