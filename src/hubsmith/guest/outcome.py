"""What an apply came to, and why: ``/run/hubsmith/apply.json``."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from hubsmith.guest import files
from hubsmith.guest.machine import uptime

APPLYING, GOOD, REFUSED = "applying", "good", "refused"


@dataclass(frozen=True)
class Reason:
    """Why an apply was refused.

    :ivar public: for everybody: no values, no user names, no output of programs.
    :ivar detail: for root and the journal.
    """

    public: str
    detail: str


@dataclass(frozen=True)
class Pending:
    """Units that have not seen their new files yet: kept on disk, so that an apply that ended half-way loses none."""

    reload: frozenset[str] = frozenset()
    restart: frozenset[str] = frozenset()

    def __or__(self, other: Pending) -> Pending:
        return Pending(self.reload | other.reload, self.restart | other.restart)


class Refused(Exception):
    """An apply cannot go on; carries the reason."""

    def __init__(self, public: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = Reason(public, detail)


@dataclass(frozen=True)
class Outcome:
    """The result of the last apply.

    :ivar state: ``applying``, ``good`` or ``refused``.
    :ivar changed: the targets that were written or removed.
    :ivar told: the units that were reloaded or restarted.
    :ivar uptime: seconds since the machine started: the clock may be set while the hub starts.
    """

    state: str
    reasons: tuple[Reason, ...] = ()
    changed: tuple[str, ...] = ()
    told: tuple[str, ...] = ()
    pending: Pending = Pending()
    uptime: float = field(default_factory=uptime)

    def save(self, path: Path) -> None:
        """Write it for root's eyes."""
        files.write(path, json.dumps(asdict(self), indent=1, default=sorted) + "\n", mode=0o600)


def read(path: Path) -> Outcome | None:
    """The outcome in ``path``, or None when there was no apply since the machine started."""
    try:
        raw = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    pending = Pending(*(frozenset(raw["pending"][kind]) for kind in ("reload", "restart")))
    reasons = tuple(Reason(**reason) for reason in raw["reasons"])
    return Outcome(raw["state"], reasons, tuple(raw["changed"]), tuple(raw["told"]), pending, raw["uptime"])
