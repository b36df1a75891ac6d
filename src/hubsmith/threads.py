"""Waiting for threads in a way that sees a Ctrl-C."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import TypeVar

T = TypeVar("T")
#: Seconds that a Ctrl-C may wait. The kernel may give it to any thread of the process; the main thread, whose work it
#: is, learns of it only when it wakes up, and Python's waits without an end do not.
AWAKE_EVERY = 0.5


def completed(futures: Collection[Future[T]]) -> Iterator[Future[T]]:
    """Futures as they are done; those that have not begun when this ends early never do.

    :raises BaseException: what the first that failed raised.
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
    """The results of futures in their order, when all are done.

    :raises BaseException: what the first that failed raised.
    """
    for _ in completed(futures):
        pass
    return [future.result() for future in futures]
