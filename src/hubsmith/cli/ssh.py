"""`hubsmith ssh`: a shell, or one command, on a machine."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
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
    parser.add_argument("host", metavar="HOST", nargs="?", help="which machine, when there are several")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND", help="without it: a shell")


def main(args: argparse.Namespace) -> int:
    """Run the verb.

    :returns: the exit code of the command.
    """
    deployment = load_deployment(args.file)
    machines = deployment.machines()
    name = args.host or (next(iter(machines)) if len(machines) == 1 else None)
    if name not in machines:
        what = f"there is no machine {name!r}" if name else "which machine?"
        raise HubsmithError(f"{what} There are: {', '.join(machines)}", where=str(args.file))
    host = QemuHost(project_root(), Record(deployment.deployment.name), name, machines[name])
    with host.machine() as machine:
        if not machine.running:
            raise HubsmithError("it does not run", where=name, mend=f"hubsmith up {args.file}")
        config = write_config(machine.folder, name, machine.port(22), machine.user, machine.key)
    # Several words stay words on the other side; one is a shell line, as with ssh itself.
    line = args.command[0] if len(args.command) == 1 else shlex.join(args.command)
    command = ["--", line] if args.command else []
    sys.stdout.flush()
    os.execvp("ssh", ["ssh", "-F", str(config), "-o", "ControlPath=none", name, *command])
