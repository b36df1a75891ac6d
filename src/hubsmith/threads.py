"""Wait for threads without blocking Ctrl-C."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import TypeVar

T = TypeVar("T")
#: Longest reaction time to Ctrl-C, in seconds. The kernel may deliver SIGINT to any thread. Only the main thread
#: handles it, and it does not wake up from a wait without a timeout.
AWAKE_EVERY = 0.5


def completed(futures: Collection[Future[T]]) -> Iterator[Future[T]]:
    """Yield futures as they complete; cancel pending ones on early exit.

    :raises BaseException: exception of the first future that failed.
    """
    pending = set(futures)
    try:
        while pending:
            done, pending = wait(pending, timeout=AWAKE_EVERY, return_when=FIRST_COMPLETED)
            for future in done:
                future.result()
                yield future
    finally:
        for future in pending:
            future.cancel()


def results(futures: Collection[Future[T]]) -> list[T]:
    """Wait for all futures and return their results in order.

    :raises BaseException: exception of the first future that failed.
    """
    for _ in completed(futures):
        pass
    return [future.result() for future in futures]
