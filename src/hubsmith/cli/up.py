"""`hubsmith up`: start a deployment and wait until it serves."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from hubsmith.cli.info import print_credentials
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
    with record.locked():
        for name, host in deployment.machines().items():
            began = time.monotonic()

            def say(line: str, name: str = name, began: float = began) -> None:
                print(f"{name}: {time.monotonic() - began:4.0f} s  {line}", file=sys.stderr, flush=True)

            machine = QemuHost(project_root(), record, name, host)
            what = machine.up(say, wait=args.wait)
            seconds = round(time.monotonic() - began, 1)
            url = machine.status()["url"]
            say(f"{what}, {url} answers")
            done.append({"name": name, "done": what, "url": url, "seconds": seconds})
    if args.json:
        print(json.dumps(done, indent=1))
    elif any(one["done"] != "is up already" for one in done):
        print_credentials(args.file, record, {str(one["name"]): str(one["url"]) for one in done})
    return 0
