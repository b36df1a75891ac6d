"""Processes and folders of a testbed; what happens when the harness is killed: ``tests/vm/test_harness_tiny.py``."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from hubsmith.errors import HarnessFailed
from hubsmith.vm.testbed import Testbed, kill


def test_a_child_that_was_collected_is_not_signalled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Testbed(tmp_path) as bed:
        child = bed.spawn(["sh", "-c", "exit 7"])
        child.wait(10)

        # Its number may be that of a stranger by now, who leads a group of the same number.
        def refuse(number: int, sign: int) -> None:
            pytest.fail(f"signal {sign} to {number}")

        monkeypatch.setattr(os, "killpg", refuse)
        monkeypatch.setattr(os, "kill", refuse)
        assert kill(child) == 7
        assert kill(child, grace=5) == 7


def test_a_whole_group_is_killed_and_a_grace_is_kept(tmp_path: Path) -> None:
    with Testbed(tmp_path) as bed:
        assert (
            kill(bed.spawn(["sh", "-c", "trap 'exit 3' TERM; touch ready; while :; do sleep 0.05; done"], cwd=tmp_path))
            == -9
        )
        polite = bed.spawn(["sh", "-c", "trap 'exit 3' TERM; touch polite; while :; do sleep 0.05; done"], cwd=tmp_path)
        while not (tmp_path / "polite").exists():
            time.sleep(0.01)
        assert kill(polite, grace=10) == 3
        stubborn = bed.spawn(["sh", "-c", "trap '' TERM; touch stubborn; while :; do sleep 0.05; done"], cwd=tmp_path)
        while not (tmp_path / "stubborn").exists():
            time.sleep(0.01)
        assert kill(stubborn, grace=0.2) == -9


def test_a_closed_testbed_starts_nothing(tmp_path: Path) -> None:
    bed = Testbed(tmp_path)
    bed.close()
    bed.close()
    with pytest.raises(HarnessFailed, match="closed"):
        bed.spawn(["true"])


def test_what_fails_while_closing_is_told_and_the_rest_is_closed(tmp_path: Path) -> None:
    bed, closed = Testbed(tmp_path), []

    def broken() -> None:
        raise ValueError("no way")

    bed.on_close(lambda: closed.append("first"))
    bed.on_close(broken)
    bed.on_close(lambda: closed.append("last"))
    with pytest.raises(HarnessFailed, match="no way"):
        bed.close()
    assert closed == ["last", "first"]
    assert not bed.folder.exists()


def test_a_private_network_is_made_once_and_closed_with_the_testbed(tmp_path: Path) -> None:
    with Testbed(tmp_path) as bed:
        lan = bed.lan("x")
        assert bed.lan("x") is lan
        assert bed.lan("y") is not lan
        switches = [thread for thread in threading.enumerate() if thread.name.startswith("lan-")]
        assert len(switches) == 2
    assert not any(thread.is_alive() for thread in switches)
