"""Base checks at the end of every test: no panic, failed unit or similar on any machine's console or in its journal."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from hubsmith.errors import HubsmithError
from hubsmith.vm.linux import Machine
from hubsmith.vm.machine import VirtualMachine

#: Messages of the kernel and of systemd that no healthy machine prints.
BAD = re.compile(
    r"Kernel panic|Oops:|BUG: |kernel BUG at|general protection fault|double fault"
    r"|WARNING: CPU: \d+ PID"
    r"|Out of memory|oom-kill|oom_reaper|invoked oom-killer"
    r"|segfault at|traps: .* trap "
    r"|I/O error, dev|Buffer I/O error|EXT4-fs error|XFS \(.*\): (?:Corruption|Internal error|Metadata)"
    r"|device-mapper: verity: .* (?:corrupted|error)|verity-fec"
    r"|[Ff]ound ordering cycle|[Jj]ob .* deleted to break ordering cycle"
    r"|Failed to start |Dependency failed for |Failed to mount |Timed out waiting for device"
    r"|Failed with result '"
    r"|You are in (?:emergency|rescue) mode"
)
#: Lines that match :data:`BAD` but are harmless.
HARMLESS = re.compile(
    # Options that say what to do in such a case.
    r"Kernel command line:|Command line:|panic=|dracut-cmdline"
)
#: Under emulation these only mean that the host was busy and a guest processor did not run for a while.
STALLS = re.compile(
    r"watchdog: BUG: soft lockup|rcu: INFO: rcu_\w+ (?:self-)?detected|blocked for more than \d+ seconds"
)
_SCRIPT = (
    "systemctl --failed --no-legend --plain --no-pager; echo ==; "
    "journalctl --namespace='*' -b -q --no-pager -o json --output-fields=MESSAGE,SYSLOG_IDENTIFIER,PRIORITY --grep "
)


@dataclass(frozen=True)
class Allowed:
    """Message that is expected in one test.

    :ivar pattern: regular expression.
    :ivar reason: why the message is not a fault.
    """

    pattern: str
    reason: str


@dataclass(frozen=True)
class Problem:
    """Message that should not be there.

    :ivar where: ``console``, ``journal``, ``units`` or ``ssh``.
    """

    machine: str
    where: str
    line: str

    def __str__(self) -> str:
        return f"{self.machine} ({self.where}): {self.line}"


def problems(machine: VirtualMachine, allowed: Sequence[Allowed] = (), *, since: int = 0) -> list[Problem]:
    """Find all problems of a machine.

    The journal and the units are checked if the machine is on and runs Linux.

    :param allowed: expected messages.
    :param since: console offset from which to check.
    """
    found = [Problem(machine.name, "console", line) for line in bad_lines(machine.console.text(since))]
    if isinstance(machine, Machine) and machine.running:
        found += _inside(machine)
    patterns = [re.compile(one.pattern) for one in allowed]
    if machine.accelerator.name == "tcg":
        patterns.append(STALLS)
    return [problem for problem in dict.fromkeys(found) if not any(p.search(str(problem)) for p in patterns)]


def bad_lines(text: str) -> list[str]:
    """Return the lines of a log that no healthy machine prints."""
    return [line.strip() for line in text.splitlines() if BAD.search(line) and not HARMLESS.search(line)]


def _inside(machine: Machine) -> list[Problem]:
    # The syntax used above means the same in Python and in journalctl (PCRE2).
    quoted = "'" + BAD.pattern.replace("'", "'\\''") + "'"
    try:
        units, _, journal = machine.succeed(f"{_SCRIPT}{quoted} || test $? = 1", timeout=120).partition("==\n")
    except HubsmithError as error:
        return [Problem(machine.name, "ssh", error.what.splitlines()[0])]
    found = [Problem(machine.name, "units", f"{line.split()[0]} has failed") for line in units.splitlines()]
    for line in journal.splitlines():
        entry = json.loads(line)
        text = f"{entry.get('SYSLOG_IDENTIFIER', '')}: {entry.get('MESSAGE', '')}"
        # Other programs, such as notebooks, may print anything.
        if entry.get("SYSLOG_IDENTIFIER") in ("kernel", "systemd") and not HARMLESS.search(text):
            found.append(Problem(machine.name, "journal", text))
    return found
