"""Apply the settings to the machine, or reject them.

This is idempotent: a second run with the same settings changes nothing. It can be interrupted at any point, because
every file is written atomically, and the hub starts only after the last step.
"""

from __future__ import annotations

import json
import logging
from typing import Any

from hubsmith.errors import HubsmithError
from hubsmith.guest import files, machine, outcome, secrets, systemd
from hubsmith.guest.hooks import run_hooks
from hubsmith.guest.layout import Layout
from hubsmith.guest.modules import load_modules
from hubsmith.guest.outcome import Outcome, Pending, Reason, Refused
from hubsmith.guest.render import prepare
from hubsmith.settings.errors import SettingsError
from hubsmith.settings.load import load
from hubsmith.settings.schema import compose, read_parts

log = logging.getLogger("hubsmith.guest")


def apply(layout: Layout, *, boot: bool = False) -> Outcome:
    """Read the settings, make all files and accounts, and start the hub. If the settings are rejected, stop the hub.

    :param boot: called by the apply unit, so systemd jobs are queued but not waited for.
    :raises HubsmithError: another apply is running, or the hub could not be stopped.
    """
    with files.locked(layout.run / "apply.lock"):
        return _Run(layout, boot).go()


class _Run:
    """One apply that holds the lock."""

    def __init__(self, layout: Layout, boot: bool) -> None:
        self.layout, self.wait = layout, not boot
        self.modules = load_modules(layout.modules)
        self.pending = before.pending if (before := outcome.read(layout.outcome)) else Pending()
        self.changed: set[str] = set()
        self.schema = compose(read_parts(layout.modules))
        self.context: dict[str, Any] = {
            "state": "good",
            "settings": None,
            "facts": dict(self.schema.facts),
            "reasons": [],
            "secrets": {},
            "machine": machine.describe(),
            "ports": [port for module in self.modules.values() for port in module.ports],
            "kept": [path for module in self.modules.values() for path in module.kept],
        }

    def go(self) -> Outcome:
        self.note(outcome.APPLYING)
        try:
            settings = load(self.layout.settings, self.schema)
            self.context |= {"settings": settings.plain(), "facts": settings.facts}
            run_hooks(self.layout.preparation, self.modules, self.context)
            self.context["secrets"] = secrets.load_or_make(self.layout.kept / "secrets.json")
            self.write_files(outcome.APPLYING)
            run_hooks(self.layout.hooks, self.modules, self.context)
            refreshed = self.refresh_units(revive=True)
        except SettingsError as error:
            reasons = tuple(Reason(p.public, p.render(error.file)) for p in error.problems)
        except Refused as error:
            reasons = (error.reason,)
        except HubsmithError as error:
            reasons = (Reason("the machine could not be set up", str(error)),)
        else:
            result = self.note(outcome.GOOD, refreshed=refreshed)
            systemd.order("start", [systemd.HUB_TARGET], wait=False)
            return result
        return self.refuse(reasons)

    def refuse(self, reasons: tuple[Reason, ...]) -> Outcome:
        """Stop the hub, then publish the reasons."""
        self.note(outcome.REFUSED, reasons)
        systemd.stop_hub(wait=self.wait)
        reasons_for_all = [reason.public for reason in reasons]
        self.context |= {
            "state": "bad", "settings": None, "facts": dict(self.schema.facts), "secrets": {},
            "reasons": reasons_for_all,
        }  # fmt: skip
        refreshed: tuple[str, ...] = ()
        try:
            self.write_files(outcome.REFUSED, reasons)
            refreshed = self.refresh_units(revive=False)
        except Refused as error:
            reasons += (error.reason,)
        return self.note(outcome.REFUSED, reasons, refreshed=refreshed)

    def write_files(self, state: str, reasons: tuple[Reason, ...] = ()) -> None:
        prepared = prepare(self.layout, self.modules, self.context)
        self.pending |= prepared.pending
        self.changed |= set(prepared.targets)
        self.note(state, reasons)
        prepared.carry_out()
        files.write(self.layout.facts, json.dumps(self.context["facts"], indent=1) + "\n")

    def refresh_units(self, *, revive: bool) -> tuple[str, ...]:
        try:
            refreshed = systemd.refresh(self.pending.reload, self.pending.restart, wait=self.wait, revive=revive)
        except HubsmithError as error:
            raise Refused("a service did not take its new configuration", str(error)) from error
        self.pending = Pending()
        return tuple(refreshed)

    def note(self, state: str, reasons: tuple[Reason, ...] = (), refreshed: tuple[str, ...] = ()) -> Outcome:
        result = Outcome(state, reasons, tuple(sorted(self.changed)), refreshed, self.pending)
        result.save(self.layout.outcome)
        return result
