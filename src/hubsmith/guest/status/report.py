"""Report of all status items, stored in ``status.json`` and printed by `hubsmith status`."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from hubsmith.errors import HubsmithError
from hubsmith.guest import outcome
from hubsmith.guest.layout import Layout
from hubsmith.guest.machine import uptime
from hubsmith.guest.status.items import STATES, Item

#: Seconds after which a report is outdated. The service makes one at least every 15 s.
STALE = 60.0


@dataclass(frozen=True)
class Report:
    """All status items. The overall state is the worst of them.

    :ivar uptime: seconds since the machine started, so that setting the clock does not change a report's age.
    :ivar time: seconds since the epoch.
    """

    items: tuple[Item, ...]
    uptime: float
    time: float

    @property
    def state(self) -> str:
        """Worst state of all items."""
        return max((item.state for item in self.items), key=STATES.index)

    @property
    def line(self) -> str:
        """Overall state and the first reason for it, in one line."""
        if self.state == "ready":
            return "ready: everything is ready"
        first = next(item for item in self.items if item.state == self.state)
        return f"{self.state}: {first.name}: {first.why}"

    def as_json(self) -> dict[str, object]:
        """Return the report as public JSON data, which :func:`read` reads."""
        items = [asdict(item) for item in self.items]
        return {
            "state": self.state,
            "line": self.line,
            "uptime": round(self.uptime, 1),
            "time": round(self.time, 1),
            "items": items,
        }


def read(path: Path) -> Report:
    """Read the last report of the status service.

    :raises HubsmithError: there is no report, or it is outdated.
    """
    hint = "systemctl restart hubsmith-status"
    try:
        raw = json.loads(path.read_text())
    except FileNotFoundError:
        raise HubsmithError("the status service has not reported yet", where=str(path), hint=hint) from None
    age = uptime() - raw["uptime"]
    if age > STALE:
        raise HubsmithError(f"the last report is {age:.0f} s old", where=str(path), hint=hint)
    return Report(tuple(Item(**item) for item in raw["items"]), raw["uptime"], raw["time"])


def table(items: Sequence[Item]) -> str:
    """Return a table of name, state and reason of each item."""
    width = max(len(item.name) for item in items)
    return "\n".join(f"{item.name:<{width}}  {item.state:<8}  {item.why}" for item in items)


def main(layout: Layout, *, as_json: bool) -> int:
    """Print the status.

    :returns: 0 if everything is ready, else 1.
    """
    path = layout.status / "status.json"
    deadline = time.monotonic() + 10
    while _is_before(path, layout.outcome) and time.monotonic() < deadline:
        time.sleep(0.2)  # the service reads the outcome of an apply every second
    report = read(path)
    if as_json:
        print(json.dumps(report.as_json(), indent=1))
    else:
        print(f"{table(report.items)}\n\n{report.line}")
        if os.geteuid() == 0 and (last := outcome.read(layout.outcome)):
            for reason in last.reasons:
                print(f"  {reason.detail}")
    return 0 if report.state == "ready" else 1


def _is_before(report: Path, event: Path) -> bool:
    try:
        return report.stat().st_mtime < event.stat().st_mtime
    except OSError:
        return False
