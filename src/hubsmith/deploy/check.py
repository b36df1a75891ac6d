"""What `hubsmith check` asks a machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from hubsmith.definition import define
from hubsmith.deploy.qemu import QemuMachine
from hubsmith.errors import HubsmithError
from hubsmith.run import spawn
from hubsmith.vm import Machine
from hubsmith.vm.ssh import CONFIG

COLUMNS = ("Exists", "Up", "Reachable", "Disks", "Load", "Units", "Notes")

#: A worker has no homes of its own.
DISKS = (
    "for place in /var /home; do mountpoint --quiet $place && df --output=target,pcent $place | tail --lines=1; done "
    "| tr --squeeze-repeats ' ' | paste --serial --delimiters=' '"
)


def check_machine(one: QemuMachine) -> dict[str, str]:
    """One row: what is there, and in `Notes` what is wrong (empty when all is well)."""
    row = {"Name": one.name, **dict.fromkeys(COLUMNS, "")}
    row |= {"Exists": "yes" if one.has_disk else "no", "Up": "no", "Reachable": "no", "Notes": "it does not run"}
    if not one.known:
        return row
    with one.machine() as machine:
        if not machine.running:
            return row
        row |= {"Up": "yes", "Notes": ""}
        try:
            row["Load"] = machine.succeed("cut -d' ' -f1-3 /proc/loadavg").strip()
            row["Reachable"] = "yes"
            row["Disks"] = machine.succeed(DISKS).strip()
            failed = machine.succeed("systemctl --failed --no-legend --plain").splitlines()
            units = [line.split()[0] for line in failed]
            row["Units"] = f"{len(units)} failed" if units else "ok"
            status = json.loads(machine.execute("hubsmith status --json").stdout)
            notes = [f"{unit} failed" for unit in units]
            notes += [f"{item['name']}: {item['why']}" for item in status["items"] if item["state"] != "ready"]
            row["Notes"] = "; ".join(notes)
        except HubsmithError as error:
            row["Notes"] = error.what.splitlines()[0]
        except (ValueError, KeyError):
            row["Notes"] = "`hubsmith status` gave no valid answer"
    return row


def module_checks(root: Path, image: str, machine: Machine) -> bool:
    """Run the `check.py` of every module of an image on a running machine by testinfra; prints pytest's report.

    :param root: the project's tree.
    :param image: the name of its definition.
    :returns: whether all passed.
    """
    modules = define(root, image).modules
    files = [path for name in modules if (path := root / "modules" / name / "check.py").is_file()]
    machine.ssh  # noqa: B018  writes the configuration and opens the connection that all checks share
    argv: list[str | Path] = [
        # -B: what is compiled beside the checks would be in the modules' folders, which images are made of.
        sys.executable, "-B", "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider",
        "--import-mode=importlib", "-c", "/dev/null", "--rootdir", root, "--sudo", f"--hosts=ssh://{machine.name}",
        f"--ssh-config={machine.folder / CONFIG}", *files,
    ]  # fmt: skip
    return spawn(argv, cwd=root, stdout=sys.stderr.fileno(), stderr=subprocess.STDOUT, own_group=False).wait() == 0
