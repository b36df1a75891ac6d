"""Bounded waits. A timeout says what was waited for, for how long, and what was seen last."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TypeVar

from hubsmith.errors import HubsmithError, ImageFailed

T = TypeVar("T")


def scaled(timeout: float) -> float:
    """Return ``timeout`` times ``$HUBSMITH_TIMEOUT_SCALE`` (default 1).

    All timeouts are chosen for emulation on two busy processors of 2020, times three. Set it on a slower host.
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
    """Call ``check`` until it returns a true value, and return that value.

    :param what: what is waited for, as in "waited 30 s for …".
    :param timeout: seconds, before :func:`scaled`.
    :param interval: seconds between two calls.
    :param alive: called before each check; raises if waiting is pointless.
    :param seen: returns details for the error message, such as the end of the console.
    :param error: exception type for a timeout.
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
