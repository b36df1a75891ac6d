"""Items of the status, and how each is determined."""

from __future__ import annotations

import json
import os
import time
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hubsmith.errors import HubsmithError
from hubsmith.guest import outcome, systemd
from hubsmith.guest.layout import Layout
from hubsmith.guest.machine import uptime
from hubsmith.run import run

#: From the best to the worst.
STATES = ("ready", "starting", "degraded", "failed", "refused")
#: Timeout of one check in seconds. It must be well below the 60 s after which a report counts as outdated.
CHECK_TIMEOUT = 30.0
#: Seconds after an apply during which a unit of the hub may still have no start job.
START_GRACE = 15.0


@dataclass(frozen=True)
class Item:
    """One line of the status. ``why`` is public: no secrets, no user names."""

    name: str
    state: str
    why: str


@dataclass(frozen=True)
class WatchedUnit:
    """A ``<item>.toml`` of ``status.d``."""

    item: str
    unit: str
    hub: bool


def watched_units(folder: Path) -> tuple[WatchedUnit, ...]:
    """Return the units that the modules' ``<item>.toml`` files name."""
    found = []
    for file in sorted(folder.glob("*.toml")):
        raw = tomllib.loads(file.read_text())
        found.append(WatchedUnit(file.stem, raw["unit"], bool(raw.get("hub", False))))
    return tuple(found)


def settings_item(last: outcome.Outcome | None, apply_unit: Mapping[str, str]) -> Item:
    """Return the item that shows whether the settings are applied."""
    if apply_unit.get("ActiveState") == "failed":
        return Item("settings", "failed", "could not be applied: see `journalctl -u hubsmith-apply`")
    if last is None:
        return Item("settings", "starting", "not read yet")
    if last.state == outcome.APPLYING:
        return Item("settings", "starting", "being applied")
    if last.state == outcome.REFUSED:
        reasons = [reason.public for reason in last.reasons]
        more = [f"and {len(reasons) - 5} more"] if len(reasons) > 5 else []
        return Item("settings", "refused", "; ".join([*reasons[:5], *more]))
    return Item("settings", "ready", "applied")


def unit_item(watched: WatchedUnit, unit: Mapping[str, str], last: outcome.Outcome | None) -> Item:
    """Return the item of a unit."""
    active, sub = unit.get("ActiveState", "unknown"), unit.get("SubState", "")
    item = watched.item
    if unit.get("LoadState") not in (None, "loaded"):
        return Item(item, "failed", f"{watched.unit} does not exist")
    if active == "failed":
        return Item(item, "failed", f"{watched.unit} failed ({unit.get('Result')}): see `journalctl -u {watched.unit}`")
    if sub == "auto-restart":
        return Item(item, "failed", f"{watched.unit} ended ({unit.get('Result')}) and will be started again")
    if active in ("active", "reloading", "refreshing"):
        return Item(item, "ready", "running" if sub == "running" else sub)
    if active == "activating" or unit.get("Job"):
        return Item(item, "starting", "is starting")
    if watched.hub and (last is None or last.state == outcome.APPLYING):
        return Item(item, "starting", "waits for the settings")
    if watched.hub and last is not None and last.state == outcome.REFUSED:
        return Item(item, "refused", "is not served before the settings are good")
    if watched.hub and last is not None and uptime() - last.uptime < START_GRACE:
        return Item(item, "starting", "is about to start")
    return Item(item, "failed", f"{watched.unit} is not running")


def check_item(executable: Path) -> Item:
    """Run an executable of ``status.d`` and return its item."""
    name = executable.name
    try:
        done = run([executable], timeout=CHECK_TIMEOUT)
        raw = json.loads(done.stdout)
        state, why = raw["state"], raw["why"]
        if state not in STATES or not isinstance(why, str):
            raise ValueError
    except (ValueError, TypeError, KeyError):
        return Item(name, "failed", "its check printed no valid answer")
    except (HubsmithError, OSError):
        return Item(name, "failed", "its check did not run to its end")
    return Item(name, state, why)


def disk_item(name: str, path: Path) -> Item:
    """Return the item for the free space of the file system with the machine's state.

    Below 64 MiB, SQLite and certificate renewals start to fail. Below 512 MiB there is still time to act.
    """
    found = os.statvfs(path)
    free, total = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
    why = f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
    inodes = found.f_favail / found.f_files if found.f_files else 1.0
    if free < 64 * 2**20 or inodes < 0.001:
        return Item(name, "failed", f"full: {why}")
    if free < 512 * 2**20 or inodes < 0.01:
        return Item(name, "degraded", f"almost full: {why}")
    return Item(name, "ready", why)


def clock_item(layout: Layout) -> Item:
    """Return the item for the clock, on which certificates and sessions depend.

    A machine without a time server is not at fault. Only a time before the image was built is certainly wrong.
    """
    built = layout.at("/usr/lib/os-release").stat().st_mtime
    if time.time() < built:
        return Item("clock", "failed", f"before the image was made: {time.strftime('%Y-%m-%d', time.gmtime())}")
    if layout.at("/run/systemd/timesync/synchronized").exists():
        return Item("clock", "ready", "synchronized")
    return Item("clock", "ready", "not synchronized with a time server")


def executables(folder: Path) -> tuple[Path, ...]:
    """Return the executables of ``status.d``."""
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    return tuple(path for path in found if path.suffix != ".toml" and os.access(path, os.X_OK))


def unit_states(watched: tuple[WatchedUnit, ...]) -> dict[str, dict[str, str]]:
    """Return the states of all watched units, with one call of systemctl."""
    return systemd.show([systemd.APPLY_UNIT, *(entry.unit for entry in watched)])
