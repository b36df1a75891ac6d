"""`hubsmith up`: start a deployment and wait until it serves."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from hubsmith.deploy import load_deployment
from hubsmith.deploy.qemu import QemuHost
from hubsmith.deploy.record import Record
from hubsmith.paths import project_root

HELP = "start a deployment"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("file", metavar="FILE", type=Path, help="a file of hosts/")
    parser.add_argument("--wait", type=float, default=900, metavar="SECONDS", help="for the hub (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print what was done as JSON")


def main(args: argparse.Namespace) -> int:
    """Run the verb."""
    deployment = load_deployment(args.file)
    record = Record(deployment.deployment.name)
    done = []
    for name, host in deployment.hosts.items():
        began = time.monotonic()
        machine = QemuHost(project_root(), record, name, host)
        what = machine.up(lambda line: print(line, file=sys.stderr, flush=True), wait=args.wait)
        seconds = round(time.monotonic() - began, 1)
        done.append({"name": name, "done": what, "url": machine.url, "seconds": seconds})
        print(f"{name}: {what}, {machine.url} answers ({seconds} s)", file=sys.stderr)
    if args.json:
        print(json.dumps(done, indent=1))
    return 0
