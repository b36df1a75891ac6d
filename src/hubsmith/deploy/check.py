"""What `hubsmith check` asks a machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from hubsmith.definition import define
from hubsmith.deploy.qemu import QemuHost
from hubsmith.errors import HubsmithError
from hubsmith.run import spawn

COLUMNS = ("Exists", "Up", "Reachable", "Disks", "Load", "Units", "Notes")


def check_host(host: QemuHost) -> dict[str, str]:
    """One row: what is there, and in `Notes` what is wrong (empty when all is well)."""
    row = {"Name": host.name, **dict.fromkeys(COLUMNS, "")}
    row["Exists"] = "yes" if host.has_disk else "no"
    row["Up"] = "yes" if host.running else "no"
    if not host.running:
        return {**row, "Reachable": "no", "Notes": "it does not run"}
    machine = host.machine()
    try:
        row["Load"] = machine.succeed("cut -d' ' -f1-3 /proc/loadavg").strip()
        row["Reachable"] = "yes"
        row["Disks"] = machine.succeed(
            "df --output=target,pcent /var /home | tail -n +2 | tr -s ' ' | paste -sd' '"
        ).strip()
        failed = machine.succeed("systemctl --failed --no-legend --plain").split("\n")
        units = [line.split()[0] for line in failed if line]
        row["Units"] = f"{len(units)} failed" if units else "ok"
        status = json.loads(machine.execute("hubsmith status --json").stdout)
        notes = [f"{unit} failed" for unit in units]
        notes += [f"{item['name']}: {item['why']}" for item in status["items"] if item["state"] != "ready"]
        row["Notes"] = "; ".join(notes)
    except HubsmithError as error:
        row |= {"Reachable": row["Reachable"] or "no", "Notes": error.what.splitlines()[0]}
    finally:
        machine._before_freeze()
    return row


def module_checks(root: Path, host: QemuHost) -> bool:
    """Run the `check.py` of every module of the host's image by testinfra; prints pytest's report.

    :returns: whether all passed.
    """
    modules = define(root, host.host.image).modules
    files = [str(path) for name in modules if (path := root / "modules" / name / "check.py").is_file()]
    machine = host.machine()
    machine.ssh  # noqa: B018  writes the configuration and opens the connection
    argv = [
        sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", "--import-mode=importlib",
        "-c", "/dev/null", "--rootdir", str(root), "--sudo", f"--hosts=ssh://{host.name}",
        f"--ssh-config={machine.folder / 'ssh_config'}", *files,
    ]  # fmt: skip
    try:
        return spawn(argv, cwd=root, stdout=sys.stderr.fileno(), stderr=subprocess.STDOUT, own_group=False).wait() == 0
    finally:
        machine._before_freeze()
