"""The limit for wrong passwords."""

from __future__ import annotations

import pytest

from hubsmith_jupyterhub import throttle
from hubsmith_jupyterhub.throttle import ATTEMPTS, PAUSE, WINDOW, Throttle

HERE, THERE = "192.0.2.1", "192.0.2.2"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limit(clock: Clock) -> Throttle:
    return Throttle(clock)


def fail(limit: Throttle, times: int = ATTEMPTS, address: str = HERE, user: str = "alice") -> None:
    for _ in range(times):
        assert not limit.blocks(address, user)
        limit.failed(address, user)


def test_an_address_must_wait_after_too_many_wrong_passwords(limit: Throttle, clock: Clock) -> None:
    fail(limit)
    assert limit.blocks(HERE, "alice")
    clock.now += PAUSE
    assert not limit.blocks(HERE, "alice")
    limit.failed(HERE, "alice")
    assert limit.blocks(HERE, "alice"), "one more wrong one, one more pause"


def test_nobody_else_has_to_wait(limit: Throttle) -> None:
    fail(limit)
    assert not limit.blocks(THERE, "alice")
    assert not limit.blocks(HERE, "bob")


def test_the_right_password_and_time_are_forgiving(limit: Throttle, clock: Clock) -> None:
    fail(limit, ATTEMPTS - 1)
    limit.succeeded(HERE, "alice")
    fail(limit, ATTEMPTS - 1)
    clock.now += WINDOW
    fail(limit, ATTEMPTS - 1)


def test_an_ipv6_customer_is_one_address(limit: Throttle) -> None:
    for number in range(ATTEMPTS):
        limit.failed(f"2001:db8::{number + 1:x}", "alice")
    assert limit.blocks("2001:db8::ffff", "alice")
    assert not limit.blocks("2001:db8:0:1::1", "alice")


def test_the_memory_is_bounded(limit: Throttle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "SIZE", 3)
    for number in range(10):
        limit.failed(f"192.0.2.{number}", "alice")
    assert len(limit._failures) == 3
