"""pytest plugin that writes the outcome of each module check to a file descriptor, one JSON object per line.

:func:`hubsmith.deploy.check.module_checks` loads it into a separate pytest process.
"""

from __future__ import annotations

import json
import os
from typing import IO, Any

import pytest
import testinfra  # type: ignore[import-untyped]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the option for the file descriptor."""
    parser.getgroup("hubsmith").addoption("--outcomes", type=int, metavar="FD", required=True)


def pytest_configure(config: pytest.Config) -> None:
    """Open the file descriptor."""
    stream = os.fdopen(config.getoption("--outcomes"), "w", buffering=1, encoding="utf-8")
    host = testinfra.get_host(config.getoption("--hosts")).backend.get_pytest_id()
    config.pluginmanager.register(Outcomes(stream, host), "check-outcomes")


class Outcomes:
    """Writes each check's outcome when the check ends.

    :param host: testinfra's ID of the machine, which pytest adds to the name of every check.
    """

    def __init__(self, stream: IO[str], host: str) -> None:
        self.stream, self.host = stream, host
        self.running: dict[str, Any] = {}

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Report a check file that cannot be loaded."""
        if report.failed:
            self._write(report.nodeid, "failed", report, 0.0)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Record one phase of a check: setup, call or teardown."""
        if report.when == "setup":
            self.running = {"outcome": "passed", "of": None, "seconds": 0.0}
        self.running["seconds"] += report.duration
        if report.failed or (report.skipped and self.running["outcome"] == "passed"):
            self.running |= {"outcome": report.outcome, "of": report}
        if report.when == "teardown":
            self._write(report.nodeid, self.running["outcome"], self.running["of"], self.running["seconds"])

    def _write(self, node: str, outcome: str, report: Any, seconds: float) -> None:
        file, _, test = node.partition("::")
        name, _, parameters = test.partition("[")
        more = parameters.removesuffix("]").replace(self.host, "").strip("-")
        entry = {
            "module": file.split("/")[-2],
            "name": f"{name}[{more}]" if more else name or "check.py",
            "outcome": outcome,
            "reason": _reason(report),
            "details": report.longreprtext if outcome == "failed" else "",
            "seconds": round(seconds, 2),
        }
        self.stream.write(json.dumps(entry) + "\n")


def _reason(report: Any) -> str:
    """Return in one line why a check was skipped or failed."""
    if report is None:
        return ""
    if isinstance(report.longrepr, tuple):
        return str(report.longrepr[2]).removeprefix("Skipped: ")
    crash = getattr(report.longrepr, "reprcrash", None)
    lines = [line for line in str(crash.message if crash else report.longreprtext).splitlines() if line.strip()]
    return (lines[0] if crash else lines[-1]).strip() if lines else ""
