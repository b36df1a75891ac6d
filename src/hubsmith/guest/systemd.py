"""The few things that apply and status ask of systemd."""

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
    """The :data:`PROPERTIES` of units, by the name asked for, in one call."""
    names = sorted(set(units))
    if not names or not running():
        return {}
    text = run(["systemctl", "show", f"--property={','.join(PROPERTIES)}", "--", *names]).stdout
    blocks = [dict(line.split("=", 1) for line in block.splitlines()) for block in text.strip().split("\n\n")]
    return dict(zip(names, blocks, strict=True))


def order(verb: str, units: Sequence[str], *, wait: bool) -> None:
    """Start, stop, restart … units.

    :param wait: wait until it is done and raise on failure. Never wait inside the apply unit: the jobs of units that
        are ordered after it would wait for it, and it for them.
    :raises CommandFailed: systemctl refused, or the job failed.
    """
    if units and running():
        run(["systemctl", verb, *([] if wait else ["--no-block"]), "--", *units])


def stop_hub(*, wait: bool) -> None:
    """Stop the hub's target and all that is part of it.

    The job of the target alone is done before its parts have ended, and who looks then finds them running.

    :param wait: until all of them have ended.
    :raises CommandFailed: systemctl refused.
    """
    parts = run(["systemctl", "show", "--property=ConsistsOf", "--value", HUB_TARGET]).stdout if running() else ""
    order("stop", [HUB_TARGET, *parts.split()], wait=wait)


def refresh(reload: frozenset[str], restart: frozenset[str], *, wait: bool, revive: bool) -> list[str]:
    """Let units see their changed files: those that run are reloaded or restarted.

    :param revive: also start those that failed; their new files may be what they needed.
    :returns: the units that were told.
    """
    states = show(reload | restart)
    alive = {unit for unit, found in states.items() if found["ActiveState"] in ("active", "reloading", "activating")}
    broken = {unit for unit, found in states.items() if found["ActiveState"] == "failed"} if revive else set[str]()
    again = sorted(restart & alive | broken)
    gently = sorted((reload & alive) - set(again))
    order("reload-or-restart", gently, wait=wait)
    order("restart", again, wait=wait)
    return sorted([*gently, *again])
