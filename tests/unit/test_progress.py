"""Progress: a bar on a terminal, plain lines in a log."""

from __future__ import annotations

import errno
import io
import os
import pty
from collections.abc import Iterator

import pytest

from hubsmith import progress
from hubsmith.progress import Bytes, human


def test_a_log_gets_plain_lines_and_a_last_one(monkeypatch: pytest.MonkeyPatch) -> None:
    log = io.StringIO()
    with Bytes("fetch", 2, 3_000_000, log) as shown:
        shown.advance(1_000_000)
        assert log.getvalue() == ""
        monkeypatch.setattr(progress, "LINE_EVERY", 0.0)
        shown.advance(1_000_000)
        monkeypatch.setattr(progress, "LINE_EVERY", 60.0)
        shown.finish()
        shown.advance(1_000_000)
        shown.finish()
    assert log.getvalue().splitlines() == [
        "fetch: 0 of 2 files, 2.0 MB of 3.0 MB, 0 s",
        "fetch: 2 of 2 files, 3.0 MB of 3.0 MB, 0 s",
    ]


def test_nothing_is_said_of_nothing() -> None:
    log = io.StringIO()
    with Bytes("fetch", 0, 0, log):
        pass
    assert log.getvalue() == ""


def until_closed(terminal: int) -> Iterator[str]:
    """What was written to the other end: one read gets only what the kernel has passed on so far."""
    while True:
        try:
            yield os.read(terminal, 65536).decode()
        except OSError as error:
            if error.errno == errno.EIO:
                return
            raise


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal, Bytes("fetch", 1, 100, terminal) as shown:
        shown.advance(100)
        shown.finish()
    told = "".join(until_closed(ours))
    os.close(ours)
    assert "fetch 1/1" in told
    assert "100/100 bytes" in told


@pytest.mark.parametrize(("size", "text"), [(0, "0 B"), (999, "999 B"), (81_300_000, "81.3 MB"), (2e9, "2.0 GB")])
def test_sizes_for_people(size: float, text: str) -> None:
    assert human(size) == text
