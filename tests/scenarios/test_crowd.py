"""A class of thirty begins at the same moment."""

from __future__ import annotations

import json
import time
from collections import Counter

import pytest
from workshop import Workshop

pytestmark = [pytest.mark.vm, pytest.mark.slow, pytest.mark.needs(memory_mb=13000)]

#: Seconds for all of them, under emulation with two processors for three machines.
ALL = 7200


def test_thirty_servers_at_once(crowd: Workshop) -> None:
    began = time.monotonic()
    told = crowd.on("master", f"hubsmith servers start --json --timeout {ALL}", timeout=ALL + 60)
    print(f"thirty servers after {time.monotonic() - began:.0f} s")
    assert json.loads(told)["failed"] == {}
    shares = Counter(crowd.places().values())
    assert sum(shares.values()) == 30
    assert set(shares) == {"worker-1", "worker-2"}
    assert min(shares.values()) >= 10, shares
    states = json.loads(crowd.on("master", "hubsmith servers list --json"))
    assert set(states.values()) == {"ready"}
    told = crowd.on("master", "hubsmith servers stop --json student1 student2", timeout=600)
    assert json.loads(told)["failed"] == {}
    assert "out of memory" not in crowd.on("worker-1", "journalctl --boot --no-pager --lines 5000").lower()
