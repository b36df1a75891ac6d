"""Outcome of an apply, recorded in ``/run/hubsmith/apply.json``."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from hubsmith.guest import files
from hubsmith.guest.machine import uptime

APPLYING, GOOD, REFUSED = "applying", "good", "refused"


@dataclass(frozen=True)
class Reason:
    """Reason why the settings were rejected.

    :ivar public: public text: no values, no user names, no output of programs.
    :ivar detail: text for root and the journal.
    """

    public: str
    detail: str


@dataclass(frozen=True)
class Pending:
    """Units that still have to be reloaded or restarted.

    They are kept on disk, so that none is lost if an apply is interrupted.
    """

    reload: frozenset[str] = frozenset()
    restart: frozenset[str] = frozenset()

    def __or__(self, other: Pending) -> Pending:
        return Pending(self.reload | other.reload, self.restart | other.restart)


class Refused(Exception):
    """The settings cannot be applied. Carries the reason."""

    def __init__(self, public: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = Reason(public, detail)


@dataclass(frozen=True)
class Outcome:
    """Outcome of the last apply.

    :ivar state: ``applying``, ``good`` or ``refused``.
    :ivar changed: targets that were written or removed.
    :ivar refreshed: units that were reloaded or restarted.
    :ivar uptime: seconds since the machine started; not a time of day, because the clock may be set meanwhile.
    """

    state: str
    reasons: tuple[Reason, ...] = ()
    changed: tuple[str, ...] = ()
    refreshed: tuple[str, ...] = ()
    pending: Pending = Pending()
    uptime: float = field(default_factory=uptime)

    def save(self, path: Path) -> None:
        """Write the outcome to a file that only root can read."""
        files.write(path, json.dumps(asdict(self), indent=1, default=sorted) + "\n", mode=0o600)


def read(path: Path) -> Outcome | None:
    """Read the outcome; None if there was no apply since the machine started."""
    try:
        raw = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    pending = Pending(*(frozenset(raw["pending"][kind]) for kind in ("reload", "restart")))
    reasons = tuple(Reason(**reason) for reason in raw["reasons"])
    return Outcome(raw["state"], reasons, tuple(raw["changed"]), tuple(raw["refreshed"]), pending, raw["uptime"])
