"""A class begins at the same moment: thirty people, or ten where machines are emulated."""

from __future__ import annotations

import json
import time
from collections import Counter

import pytest
from workshop import Workshop

from hubsmith.vm.accel import detect

pytestmark = [pytest.mark.vm, pytest.mark.slow, pytest.mark.needs(memory_mb=13000)]

#: Seconds for all of them, under emulation with two processors for three machines.
ALL = 3600


def test_a_class_starts_at_once(crowd: Workshop) -> None:
    people = 30 if detect().name == "kvm" else 10
    names = " ".join(["teacher", *(f"student{number}" for number in range(1, people))])
    began = time.monotonic()
    told = crowd.on("master", f"hubsmith servers start --json --timeout {ALL} {names}", timeout=ALL + 60)
    print(f"{people} servers after {time.monotonic() - began:.0f} s")
    assert json.loads(told)["failed"] == {}
    shares = Counter(crowd.places().values())
    assert sum(shares.values()) == people
    assert set(shares) == {"worker-1", "worker-2"}
    assert min(shares.values()) >= people // 3, shares
    states = json.loads(crowd.on("master", "hubsmith servers list --json"))
    assert Counter(states.values())["ready"] == people
    told = crowd.on("master", "hubsmith servers stop --json student1 student2", timeout=600)
    assert json.loads(told)["failed"] == {}
    assert "out of memory" not in crowd.on("worker-1", "journalctl --boot --no-pager --lines 5000").lower()
