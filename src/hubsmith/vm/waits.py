"""Bounded waiting: every wait says what it waited for, how long, and what it saw last."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TypeVar

from hubsmith.errors import HubsmithError, ImageFailed

T = TypeVar("T")


def scaled(timeout: float) -> float:
    """A bound on this host: ``$HUBSMITH_TIMEOUT_SCALE`` times the given one.

    All bounds in the harness and the tests are meant for emulation on two busy processors of 2020, with a margin of
    about three; a slower host sets the variable, a faster one needs nothing.
    """
    return timeout * float(os.environ.get("HUBSMITH_TIMEOUT_SCALE") or 1)


def wait_until(
    what: str,
    check: Callable[[], T | None],
    *,
    timeout: float,
    interval: float = 0.25,
    alive: Callable[[], None] | None = None,
    seen: Callable[[], str] | None = None,
    error: type[HubsmithError] = ImageFailed,
) -> T:
    """Call ``check`` until it returns something true, and return that.

    :param what: what is waited for, as in "waited 30 s for …".
    :param timeout: seconds, before :func:`scaled`.
    :param alive: called before each check; raises when waiting is in vain.
    :param seen: what to add to the error, such as the end of the console.
    :param error: what a time-out raises.
    """
    bound = scaled(timeout)
    started = time.monotonic()
    while True:
        if alive:
            alive()
        if found := check():
            return found
        if time.monotonic() - started >= bound:
            raise error(f"waited {bound:.0f} s for {what}" + (f"\n{seen()}" if seen else ""))
        time.sleep(interval)
