"""A pytest plugin that writes what a run of the tests says about one image's very bytes.

Loaded by ``-p hubsmith.testing.report --report FILE``; publishing refuses an image without a green report for its
checksum.
"""

from __future__ import annotations

import collections
import datetime
import json
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from hubsmith import files
from hubsmith.errors import HubsmithError
from hubsmith.testing.plugin import VERDICT, image_file
from hubsmith.vm.accel import qemu_version

OUTCOMES = ("passed", "failed", "error", "skipped")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where the report goes."""
    parser.getgroup("hubsmith").addoption("--report", type=Path, help="write a report of the run, as JSON")


def pytest_configure(config: pytest.Config) -> None:
    """Begin the report."""
    if (path := config.getoption("--report")) is not None:
        config.pluginmanager.register(Report(path, image_file(config.getoption("--image"))), "image-report")


class Report:
    """Collects the outcomes of one run.

    :param path: the report's file; an older one is removed at once, so that an interrupted run leaves none.
    """

    def __init__(self, path: Path, image: Path) -> None:
        self.path, self.image = path, image
        path.unlink(missing_ok=True)
        self.sha256, self.began = files.sha256(image), time.time()
        self.tests: dict[str, dict[str, Any]] = {}
        self.deselected = 0

    def pytest_deselected(self, items: list[pytest.Item]) -> None:
        """Count what was not run."""
        self.deselected += len(items)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """One phase of one test: setup, call or teardown."""
        test = self.tests.setdefault(report.nodeid, {"outcome": "passed", "seconds": 0.0})
        test["seconds"] = round(test["seconds"] + report.duration, 2)
        if report.failed:
            test["outcome"] = "failed" if report.when == "call" else "error"
            test["why"] = str(report.longrepr)[-2000:]
            test |= {name: value for name, value in report.user_properties if name == VERDICT}
        elif report.skipped and test["outcome"] == "passed":
            test["outcome"] = "skipped"

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Write the report."""
        if exitstatus in (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.INTERNAL_ERROR, pytest.ExitCode.USAGE_ERROR):
            return
        counts = collections.Counter(test["outcome"] for test in self.tests.values())
        verdicts = collections.Counter(test[VERDICT] for test in self.tests.values() if VERDICT in test)
        unchanged = files.sha256(self.image) == self.sha256
        content = {
            "image": self.image.name,
            "sha256": self.sha256,
            "green": exitstatus == pytest.ExitCode.OK and counts["passed"] > 0 and not counts["skipped"] and unchanged,
            "unchanged": unchanged,
            "began": datetime.datetime.fromtimestamp(self.began, datetime.UTC).isoformat(timespec="seconds"),
            "seconds": round(time.time() - self.began, 1),
            "counts": {**{name: counts[name] for name in OUTCOMES}, "deselected": self.deselected},
            "at_fault": {"image": verdicts["image"], "harness": verdicts["harness"]},
            "tools": tools(),
            "tests": self.tests,
        }
        files.write(self.path, json.dumps(content, indent=1) + "\n")


def tools() -> dict[str, str]:
    """The versions of what judged the image."""
    try:
        qemu = qemu_version()
    except HubsmithError as error:
        qemu = error.what
    packages = {name: version(name) for name in ("hubsmith", "pytest", "pytest-testinfra", "qemu.qmp")}
    return {"python": platform.python_version(), "qemu": qemu, **packages}
