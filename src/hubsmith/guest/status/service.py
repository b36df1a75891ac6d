"""The status service: writes the status page, and announces changes of the overall state on the console."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from pathlib import Path

from hubsmith.guest import files, outcome, systemd
from hubsmith.guest.layout import Layout
from hubsmith.guest.machine import uptime
from hubsmith.guest.status import items, page
from hubsmith.guest.status.items import Item
from hubsmith.guest.status.report import Report

log = logging.getLogger("hubsmith.status")

TICK = 1.0
#: Seconds between two queries, while something is not ready and while everything is. A query takes half a second of
#: processor time under emulation.
UNITS_EVERY, UNITS_EVERY_WHEN_READY = 5.0, 15.0
CHECKS_EVERY, CHECKS_EVERY_WHEN_READY = 15.0, 60.0


class Watch:
    """State of the service between two calls of :meth:`look`."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.watched = items.watched_units(layout.checks)
        self.checks = items.executables(layout.checks)
        self.answers = tuple(Item(check.name, "starting", "waits for the settings") for check in self.checks)
        self.seen: object = None
        self.due_at = self.checks_at = 0.0
        self.outcome_at = -1

    def look(self, now: float) -> Report | None:
        """Run the queries that are due and return a new report; None if none is due.

        :param now: monotonic seconds.
        """
        stamp = self._outcome_stamp()
        if stamp == self.outcome_at and now < self.due_at:
            return None
        self.outcome_at = stamp
        last = outcome.read(self.layout.outcome)
        states = items.unit_states(self.watched)
        first = [items.settings_item(last, states.get(systemd.APPLY_UNIT, {}))]
        first += [items.unit_item(entry, states.get(entry.unit, {}), last) for entry in self.watched]
        settled = last is not None and last.state != outcome.APPLYING
        good = all(answer.state == "ready" for answer in self.answers)
        checks_due = self.checks_at + (CHECKS_EVERY_WHEN_READY if good else CHECKS_EVERY)
        if settled and ((stamp, first) != self.seen or now >= checks_due):
            self.answers = tuple(items.check_item(check) for check in self.checks)
            self.seen, self.checks_at = (stamp, first), now
        machine = (items.disk_item("state disk", self.layout.at("/var")), items.clock_item(self.layout))
        report = Report((*first, *self.answers, *machine), uptime(), time.time())
        self.due_at = now + (UNITS_EVERY_WHEN_READY if report.state == "ready" else UNITS_EVERY)
        return report

    def _outcome_stamp(self) -> int:
        try:
            return self.layout.outcome.stat().st_mtime_ns
        except FileNotFoundError:
            return 0


def publish(layout: Layout, report: Report) -> None:
    """Write the public status files."""
    files.write(layout.status / "status.json", json.dumps(report.as_json(), indent=1) + "\n")
    files.write(layout.status / "index.html", page.render(report))


def announce(layout: Layout, report: Report) -> None:
    """Write one line to the console, to the text above its login prompt, and to the journal."""
    line = "".join(c if c.isprintable() else "?" for c in f"hubsmith: {report.line}")
    log.info("%s", line)
    # agetty expands \x in issue files; none of our sentences needs a backslash.
    files.write(layout.at("/run/issue.d/hubsmith.issue"), line.replace("\\", "/") + "\n")
    _to_console(layout.at("/dev/console"), line)


def _to_console(console: Path, line: str) -> None:
    # The console may block or be missing. This must not stop the service; the journal has the line, too.
    with contextlib.suppress(OSError):
        handle = os.open(console, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
        with os.fdopen(handle, "wb", buffering=0) as file:
            file.write(f"\r\n{line}\r\n".encode())


def serve(layout: Layout) -> None:
    """Publish and announce the status until systemd stops the service."""
    watch, state = Watch(layout), None
    while True:
        if report := watch.look(time.monotonic()):
            publish(layout, report)
            if report.state != state:
                announce(layout, report)
                state = report.state
        time.sleep(TICK)
