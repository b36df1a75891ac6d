"""Waiting for threads."""

from __future__ import annotations

import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from hubsmith.threads import completed, results


def test_results_are_in_the_order_of_their_work() -> None:
    with ThreadPoolExecutor(3) as pool:
        assert results([pool.submit(lambda n=n: (time.sleep((3 - n) / 50), n)[1]) for n in range(3)]) == [0, 1, 2]


def test_a_failure_ends_the_waiting_and_what_has_not_begun_never_does() -> None:
    begun: list[int] = []

    def work(number: int) -> None:
        begun.append(number)
        time.sleep(0.1)
        raise ValueError(number)

    with ThreadPoolExecutor(1) as pool, pytest.raises(ValueError, match="0"):
        results([pool.submit(work, number) for number in range(5)])
    assert begun in ([0], [0, 1])  # the thread takes the next one before anybody can say that the first failed


def test_whoever_stops_listening_cancels_the_rest() -> None:
    with ThreadPoolExecutor(1) as pool:
        futures = [pool.submit(time.sleep, 0.05) for _ in range(100)]
        waiting = completed(futures)
        next(waiting)
        waiting.close()
    assert sum(future.cancelled() for future in futures) >= 90


def test_a_ctrl_c_that_the_kernel_gave_to_another_thread_is_seen() -> None:
    over = threading.Event()

    def work() -> bool:
        time.sleep(0.3)  # until the main thread waits
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)
        return over.wait(20)

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(work)
        with pytest.raises(KeyboardInterrupt):
            results([future])
        assert not future.done()
        over.set()
