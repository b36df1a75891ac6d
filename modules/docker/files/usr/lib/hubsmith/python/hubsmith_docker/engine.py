"""The container engine of this machine, through its command line."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

from hubsmith.guest.programs import run

#: Seconds for an engine that takes up its Swarm again.
PATIENCE = 180


def docker(*words: object, may_end_with: Sequence[int] = (0,), timeout: float | None = None) -> str:
    """What `docker` prints.

    :param timeout: seconds.
    :raises Failed: it ended otherwise than it may, or took too long.
    """
    return run("docker", *words, may_end_with=may_end_with, timeout=timeout).strip()


def swarm_state(*, patience: float = PATIENCE, timeout: float | None = None) -> dict[str, Any]:
    """What the engine says of its Swarm, once it has taken up the one that it was in.

    :param patience: seconds to wait for that.
    :param timeout: seconds for one answer.
    :raises Failed: the engine does not answer.
    """
    deadline = time.monotonic() + patience
    while True:
        state: dict[str, Any] = json.loads(docker("info", "--format", "{{json .Swarm}}", timeout=timeout))
        if state["LocalNodeState"] != "pending" or time.monotonic() > deadline:
            return state
        time.sleep(1)
