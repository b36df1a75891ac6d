"""`hubsmith info`: list a deployment's machines."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from hubsmith.deploy import load_deployment
from hubsmith.deploy.qemu import QemuHost
from hubsmith.deploy.record import Record
from hubsmith.paths import project_root

HELP = "list a deployment's machines"
COLUMNS = ("Name", "Status", "Type", "Resource Id", "URL")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("file", metavar="FILE", type=Path, help="a file of hosts/")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--plain", action="store_true", help="tab-separated, without a heading")
    how.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument("--credentials", action="store_true", help="the one-time passwords too, and what to do next")


def main(args: argparse.Namespace) -> int:
    """Run the verb."""
    deployment = load_deployment(args.file)
    record = Record(deployment.deployment.name)
    hosts = {name: QemuHost(project_root(), record, name, host) for name, host in deployment.hosts.items()}
    rows = []
    for name, host in hosts.items():
        rows.append(
            (
                name,
                host.status(),
                f"qemu ({host.host.image})",
                str(host.known.get("pid", "")),
                host.url if host.running else "",
            )
        )
    if args.json:
        found: list[dict[str, Any]] = [
            dict(zip((column.lower() for column in COLUMNS), row, strict=True)) for row in rows
        ]
        if args.credentials:
            for one in found:
                one["credentials"] = record.read("credentials.json").get(one["name"], {})
        print(json.dumps(found, indent=1))
        return 0
    if args.plain:
        for row in rows:
            print("\t".join(row))
    else:
        table = Table(*COLUMNS, box=None)
        for row in rows:
            table.add_row(*row)
        Console().print(table)
    if args.credentials:
        for name, users in record.read("credentials.json").items():
            for user, password in users.items():
                print(f"log in at {hosts[name].url} as {user} with the password {password}")
        print(
            f"The certificate is self-signed: the browser will warn.\n"
            f"look inside: hubsmith ssh {args.file} HOST      its console: {record.folder}/HOST/console.log\n"
            f"stop:        hubsmith down {args.file}          and delete it: hubsmith down {args.file} --delete"
        )
    return 0
