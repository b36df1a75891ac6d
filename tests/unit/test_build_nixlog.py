"""Nix's log, as it was recorded from Nix 2.8 with two stages at once of which one fails."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hubsmith.build.nixlog import Watch

A, B = (f"/nix/store/{'x' * 32}-master-{name}.drv" for name in ("packages", "npm-proxy"))


def feed(watch: Watch, *events: dict[str, Any]) -> None:
    for event in events:
        watch.line(f"@nix {json.dumps(event)}")


def start(number: int, derivation: str) -> dict[str, Any]:
    return {"action": "start", "type": 105, "id": number, "level": 3, "text": "", "fields": [derivation, "", 1, 1]}


def said(number: int, text: str) -> dict[str, Any]:
    return {"action": "result", "type": 101, "id": number, "fields": [text]}


PLAN = [
    {"action": "msg", "level": 3, "msg": text} for text in ("these 2 derivations will be built:", f"  {A}", f"  {B}")
]


def test_stages_are_counted_and_timed(capsys: pytest.CaptureFixture[str]) -> None:
    watch = Watch("master")
    feed(watch, *PLAN, start(1, A), start(2, B), said(1, "unpacking"), {"action": "stop", "id": 2})
    feed(watch, {"action": "start", "type": 0, "id": 9, "text": "querying"}, {"action": "stop", "id": 9})
    feed(watch, {"action": "stop", "id": 1})
    told = capsys.readouterr().err.splitlines()
    assert told[:2] == ["build master: [1/2] packages", "build master: [2/2] npm-proxy"]
    assert [line.split()[2] for line in told[2:]] == ["npm-proxy", "packages"]
    assert watch.stages.keys() == {"packages", "npm-proxy"}


def test_a_failure_quotes_the_stage_that_failed_and_no_other() -> None:
    watch = Watch("master")
    error = f"\x1b[31;1merror:\x1b[0m builder for '\x1b[35;1m{B}\x1b[0m' failed with exit code 3;\n last 1 log lines:"
    feed(watch, *PLAN, start(1, A), start(2, B), said(2, "oops"), said(1, "unpacking"))
    feed(watch, {"action": "msg", "level": 0, "msg": error}, {"action": "stop", "id": 1}, {"action": "stop", "id": 2})
    assert watch.failure().splitlines() == [f"error: builder for '{B}' failed with exit code 3", "oops"]


def test_what_is_no_event_is_an_error() -> None:
    watch = Watch("master")
    watch.line("error: undefined variable 'x'")
    assert watch.failure() == "error: undefined variable 'x'"
