"""Limit for wrong passwords."""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable

#: Wrong passwords within so many seconds, after which an address must wait.
ATTEMPTS, WINDOW = 10, 300
#: Seconds.
PAUSE = 60
#: Pairs of addresses and users that are remembered, the most recent ones.
SIZE = 100_000


class Throttle:
    """Failed attempts of each address to log in as each user.

    Attempts count for the address they come from, so nobody can lock out someone else.

    :param clock: seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: OrderedDict[tuple[str, str], list[float]] = OrderedDict()

    def blocks(self, address: str, user: str) -> bool:
        """Whether the address must wait before it may try again."""
        failures = self._recent(address, user)
        return len(failures) >= ATTEMPTS and self._clock() - failures[-1] < PAUSE

    def failed(self, address: str, user: str) -> None:
        """Note a wrong password."""
        failures = [*self._recent(address, user), self._clock()]
        key = (_network(address), user)
        self._failures[key] = failures[-ATTEMPTS:]
        self._failures.move_to_end(key)
        while len(self._failures) > SIZE:
            self._failures.popitem(last=False)

    def succeeded(self, address: str, user: str) -> None:
        """Forget the failures."""
        self._failures.pop((_network(address), user), None)

    def _recent(self, address: str, user: str) -> list[float]:
        after = self._clock() - WINDOW
        return [moment for moment in self._failures.get((_network(address), user), ()) if moment > after]


def _network(address: str) -> str:
    """The address, or the network of 64 bits that an IPv6 address is in: one customer has all of it."""
    try:
        return str(ipaddress.ip_network(f"{address}/{64 if ':' in address else 32}", strict=False))
    except ValueError:
        return address
