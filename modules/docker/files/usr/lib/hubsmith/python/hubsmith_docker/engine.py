"""Calls of this machine's Docker Engine through its command line."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

from hubsmith.guest.programs import run

#: Seconds for an engine to reconnect to its Swarm.
PATIENCE = 180


def docker(*words: object, may_end_with: Sequence[int] = (0,), timeout: float | None = None) -> str:
    """Run `docker` and return its output.

    :param may_end_with: exit codes that are not failures.
    :param timeout: seconds.
    :raises Failed: it ended with another exit code, or the timeout expired.
    """
    return run("docker", *words, may_end_with=may_end_with, timeout=timeout).strip()


def swarm_state(*, patience: float = PATIENCE, timeout: float | None = None) -> dict[str, Any]:
    """Return the engine's Swarm state, after it has reconnected to a Swarm that it was in.

    :param patience: seconds to wait for the reconnection.
    :param timeout: seconds for one answer.
    :raises Failed: the engine does not answer.
    """
    deadline = time.monotonic() + patience
    while True:
        state: dict[str, Any] = json.loads(docker("info", "--format", "{{json .Swarm}}", timeout=timeout))
        if state["LocalNodeState"] != "pending" or time.monotonic() > deadline:
            return state
        time.sleep(1)
