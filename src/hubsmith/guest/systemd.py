"""Calls of systemd by apply and status."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from hubsmith.run import run

HUB_TARGET = "hubsmith-hub.target"
APPLY_UNIT = "hubsmith-apply.service"
PROPERTIES = ("Id", "LoadState", "ActiveState", "SubState", "Result", "Job")


def running() -> bool:
    """Whether systemd manages this machine (it does not in a chroot): the test of sd_booted(3)."""
    return Path("/run/systemd/system").is_dir()


def show(units: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return the :data:`PROPERTIES` of units by name, with one call of systemctl."""
    names = sorted(set(units))
    if not names or not running():
        return {}
    text = run(["systemctl", "show", f"--property={','.join(PROPERTIES)}", "--", *names]).stdout
    blocks = [dict(line.split("=", 1) for line in block.splitlines()) for block in text.strip().split("\n\n")]
    return dict(zip(names, blocks, strict=True))


def order(verb: str, units: Sequence[str], *, wait: bool) -> None:
    """Run a verb of systemctl, such as start or stop, for some units.

    :param wait: wait until the jobs are done, and raise if one fails. The apply unit must never wait, because jobs of
        units that are ordered after it wait for it: a deadlock.
    :raises CommandFailed: systemctl failed, or a job failed.
    """
    if units and running():
        run(["systemctl", verb, *([] if wait else ["--no-block"]), "--", *units])


def stop_hub(*, wait: bool) -> None:
    """Stop the hub's target and all units that are part of it.

    The units are named, because the target's own stop job is done while they are still running.

    :param wait: wait until all of them have stopped.
    :raises CommandFailed: systemctl failed.
    """
    parts = run(["systemctl", "show", "--property=ConsistsOf", "--value", HUB_TARGET]).stdout if running() else ""
    order("stop", [HUB_TARGET, *parts.split()], wait=wait)


def refresh(reload: frozenset[str], restart: frozenset[str], *, wait: bool, revive: bool) -> list[str]:
    """Reload or restart the running units whose files have changed.

    :param revive: also restart failed units, because their new files may fix them.
    :returns: units that were reloaded or restarted.
    """
    states = show(reload | restart)
    alive = {unit for unit, found in states.items() if found["ActiveState"] in ("active", "reloading", "activating")}
    broken = {unit for unit, found in states.items() if found["ActiveState"] == "failed"} if revive else set[str]()
    again = sorted(restart & alive | broken)
    gently = sorted((reload & alive) - set(again))
    order("reload-or-restart", gently, wait=wait)
    order("restart", again, wait=wait)
    return sorted([*gently, *again])
