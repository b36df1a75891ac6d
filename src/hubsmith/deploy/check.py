"""The checks behind `hubsmith check`: a machine's units and status, and the tests of its modules."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Literal

from hubsmith.definition import define
from hubsmith.deploy import check_plugin
from hubsmith.deploy.qemu import QemuMachine
from hubsmith.errors import HarnessFailed, HubsmithError
from hubsmith.run import spawn
from hubsmith.vm import Machine
from hubsmith.vm.ssh import CONFIG
from hubsmith.vm.waits import wait_until

COLUMNS = ("Exists", "Up", "Reachable", "Disks", "Load", "Units", "Notes")

#: A worker has no homes of its own.
DISKS = (
    "for place in /var /home; do mountpoint --quiet $place && df --output=target,pcent $place | tail --lines=1; done "
    "| tr --squeeze-repeats ' ' | paste --serial --delimiters=' '"
)
#: Exit codes of pytest with which the checks have run: all passed, some failed, there were none.
_RAN = (0, 1, 5)


@dataclass(frozen=True)
class Check:
    """Result of one module's check on one machine.

    :ivar reason: why it was skipped or failed, in one line.
    :ivar details: the traceback of a failure.
    """

    module: str
    name: str
    outcome: Literal["passed", "failed", "skipped"]
    reason: str
    details: str
    seconds: float


@dataclass(frozen=True)
class Health:
    """A machine's failed units and status items."""

    failed: tuple[str, ...]
    items: tuple[dict[str, str], ...]

    @property
    def starting(self) -> str:
        """The items that are still starting; empty if something has failed, because waiting is then pointless."""
        if self.failed or any(item["state"] in ("failed", "refused") for item in self.items):
            return ""
        return "; ".join(f"{item['name']}: {item['why']}" for item in self.items if item["state"] == "starting")

    @property
    def notes(self) -> list[str]:
        """One line per problem."""
        return [
            *(f"{unit} failed" for unit in self.failed),
            *(f"{item['name']}: {item['why']}" for item in self.items if item["state"] != "ready"),
        ]


def settled(
    name: str, look: Callable[[], Health], report: Callable[[str, str], None], *, wait: float, interval: float = 2
) -> Health:
    """Wait until a machine has finished starting, for example after an apply.

    Returns at once if something has failed.

    :param look: queries the machine.
    :param report: called with the machine's name and a line, whenever it waits for something else.
    :param wait: seconds. Items that are still starting after that are in the notes.
    """
    seen: list[Health] = []
    reported = ""

    def done() -> bool:
        nonlocal reported
        seen.append(look())
        if (starting := seen[-1].starting) not in ("", reported):
            reported = starting
            report(name, f"waiting for {starting}")
        return not starting

    class StillStarting(HubsmithError):
        """The timeout expired."""

    try:
        wait_until(f"{name} to be ready", done, timeout=wait, interval=interval, error=StillStarting)
    except StillStarting:
        report(name, f"still not ready after {wait:.0f} s")
    return seen[-1]


def health(machine: Machine) -> Health:
    """Query a machine's failed units and status.

    :raises HubsmithError: the machine does not answer.
    """
    failed = machine.succeed("systemctl --failed --no-legend --plain").splitlines()
    status = json.loads(machine.execute("hubsmith status --json").stdout)
    return Health(tuple(line.split()[0] for line in failed), tuple(status["items"]))


def check_machine(one: QemuMachine, report: Callable[[str, str], None], *, wait: float) -> dict[str, str]:
    """Return a machine's row of the table. `Notes` lists the problems and is empty if there are none.

    :param report: called with the machine's name and one line.
    :param wait: seconds to wait for items that are still starting.
    """
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
            found = settled(one.name, lambda: health(machine), report, wait=wait)
            row["Units"] = f"{len(found.failed)} failed" if found.failed else "ok"
            row["Notes"] = "; ".join(found.notes)
        except HubsmithError as error:
            row["Notes"] = error.what.splitlines()[0]
        except (ValueError, KeyError):
            row["Notes"] = "`hubsmith status` gave no valid answer"
    return row


def module_checks(
    root: Path, image: str, machine: Machine, report: Callable[[Check], None] = lambda check: None
) -> list[Check]:
    """Run the `check.py` of each module of an image on a running machine, with testinfra.

    :param root: project tree.
    :param image: name of the image's definition.
    :param report: called with each check when it ends.
    :raises HarnessFailed: pytest could not run the checks.
    """
    machine.ssh  # noqa: B018  writes the configuration and opens the connection that all checks share
    there = ["--sudo", f"--hosts=ssh://{machine.name}", f"--ssh-config={machine.folder / CONFIG}"]
    return run_checks(root, define(root, image).modules, there, report)


def run_checks(
    root: Path, modules: Iterable[str], there: Sequence[str], report: Callable[[Check], None]
) -> list[Check]:
    """Run the checks of some modules.

    :param there: arguments of testinfra that select the machine, including ``--hosts``.
    """
    files = [path for name in modules if (path := root / "modules" / name / "check.py").is_file()]
    if not files:
        return []
    receive, send = os.pipe()
    argv: list[str | Path] = [
        # -B: bytecode would be written to the modules' folders, and images are made of these.
        sys.executable, "-B", "-m", "pytest", "-p", "no:cacheprovider", "-p", check_plugin.__name__,
        f"--outcomes={send}", "--import-mode=importlib", "--continue-on-collection-errors",
        "-c", "/dev/null", "--rootdir", root, *there, *files,
    ]  # fmt: skip
    found: list[Check] = []
    with TemporaryFile() as output, os.fdopen(receive, encoding="utf-8") as lines:
        try:
            # In our process group, so that Ctrl-C ends it, too.
            child = spawn(argv, cwd=root, stdout=output, stderr=subprocess.STDOUT, own_group=False, pass_fds=(send,))
        finally:
            os.close(send)
        for line in lines:
            found.append(Check(**json.loads(line)))
            report(found[-1])
        if (code := child.wait()) not in _RAN:
            output.seek(0)
            tail = "\n".join(output.read().decode(errors="replace").splitlines()[-15:])
            raise HarnessFailed(f"the checks of the modules ended with exit code {code}:\n{tail}")
    return found


def counts(checks: Iterable[Check]) -> dict[str, Counter[str]]:
    """Count the outcomes per module, in the order in which the checks ran."""
    found: dict[str, Counter[str]] = {}
    for check in checks:
        found.setdefault(check.module, Counter())[check.outcome] += 1
    return found


def as_json(check: Check) -> dict[str, Any]:
    """Return a check as JSON data, without empty fields."""
    return {key: value for key, value in vars(check).items() if value != ""}
