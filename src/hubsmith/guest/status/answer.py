"""Output of an executable in ``status.d``. It runs every minute, so this module imports little."""

from __future__ import annotations

import json


def answer(state: str, why: str) -> None:
    """Print a status item's state and reason.

    :param state: one of ``ready``, ``starting``, ``degraded``, ``failed``.
    :param why: a public sentence: no secrets, no user names.
    """
    print(json.dumps({"state": state, "why": why}))
