"""The switch of a persistent network, with sockets where QEMU's would be."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hubsmith.vm.command import lan_sockets
from hubsmith.vm.state_dir import PersistentMachines
from hubsmith.vm.switch import PLAN, RUNNING, PersistentLan

ADDRESSES = {"a": b"\2\0\0\0\0\1", "b": b"\2\0\0\0\0\2", "c": b"\2\0\0\0\0\3"}
BROADCAST = b"\xff" * 6


class Nic:
    """What QEMU does with the network's two sockets."""

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(exist_ok=True)
        self.address = ADDRESSES[name]
        ours, theirs = lan_sockets("net1")
        (folder / ours).unlink(missing_ok=True)
        self.target = str(folder / theirs)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(folder / ours))
        self.socket.settimeout(3)

    def send(self, to: bytes, text: bytes) -> None:
        self.socket.sendto(to + self.address + b"\x88\xb5" + text, self.target)

    def receive(self) -> bytes:
        return self.socket.recv(65536)[14:]

    def hears_nothing(self) -> bool:
        self.socket.settimeout(0.4)
        try:
            self.receive()
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(3)
        return False


@pytest.fixture
def lan(tmp_path: Path) -> Iterator[PersistentLan]:
    with PersistentMachines(tmp_path) as place:
        made = place.lan("x")
        yield made
        made.end()
        wait_for_end(made)


def wait_for_end(lan: PersistentLan) -> None:
    deadline = time.monotonic() + 10
    while lan.running:
        assert time.monotonic() < deadline, "the switch goes on"
        time.sleep(0.05)


@pytest.fixture
def nics(tmp_path: Path, lan: PersistentLan) -> dict[str, Nic]:
    made = {}
    for name in ADDRESSES:
        made[name] = Nic(tmp_path / name, name)
        lan.attach(tmp_path / name, "net1", name)
    return made


def switch_process(lan: PersistentLan) -> int:
    """The process that has the lock's file open."""
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if int(link.parts[2]) != os.getpid() and link.samefile(lan.folder / RUNNING):
                return int(link.parts[2])
        except OSError:
            continue
    raise AssertionError("no switch runs")


def test_frames_reach_whom_they_are_for(nics: dict[str, Nic]) -> None:
    nics["a"].send(BROADCAST, b"who is there?")
    assert nics["b"].receive() == nics["c"].receive() == b"who is there?"
    nics["b"].send(ADDRESSES["a"], b"I am")
    assert nics["a"].receive() == b"I am"
    assert nics["c"].hears_nothing()


def test_a_cut_network_and_a_whole_one(lan: PersistentLan, nics: dict[str, Nic]) -> None:
    lan.partition({"a", "b"})
    nics["a"].send(BROADCAST, b"1")
    assert nics["b"].receive() == b"1"
    assert nics["c"].hears_nothing()
    lan.partition()
    nics["a"].send(BROADCAST, b"2")
    assert nics["c"].receive() == b"2"


def test_a_switch_that_was_killed_comes_back_as_it_was(
    lan: PersistentLan, nics: dict[str, Nic], tmp_path: Path
) -> None:
    lan.partition({"a", "b"})
    os.kill(switch_process(lan), signal.SIGKILL)
    wait_for_end(lan)
    lan.attach(tmp_path / "a", "net1", "a")
    nics["a"].send(BROADCAST, b"again")
    assert nics["b"].receive() == b"again"
    assert nics["c"].hears_nothing()


@pytest.mark.parametrize("folder", ["new", "the same"])
def test_a_machine_that_was_made_anew_is_plugged_in_anew(
    lan: PersistentLan, nics: dict[str, Nic], tmp_path: Path, folder: str
) -> None:
    nics["b"].socket.close()
    for file in (tmp_path / "b").iterdir():
        file.unlink()
    if folder == "new":
        (tmp_path / "b").rename(tmp_path / "old")
    b = Nic(tmp_path / "b", "b")
    lan.attach(tmp_path / "b", "net1", "b")
    nics["a"].send(BROADCAST, b"hello")
    assert b.receive() == b"hello"
    b.send(ADDRESSES["a"], b"here")
    assert nics["a"].receive() == b"here"


def test_a_machine_that_was_taken_off_hears_nothing(lan: PersistentLan, nics: dict[str, Nic]) -> None:
    lan.detach("b")
    lan.partition()  # is back when the switch has read it
    nics["a"].send(BROADCAST, b"hello")
    assert nics["c"].receive() == b"hello"
    assert nics["b"].hears_nothing()


def test_who_is_on_the_network_already_needs_no_room_on_the_disk(
    lan: PersistentLan, nics: dict[str, Nic], tmp_path: Path
) -> None:
    before = (lan.folder / PLAN).stat()
    lan.attach(tmp_path / "a", "net1", "a")
    assert (lan.folder / PLAN).stat() == before


def test_one_switch_for_many_commands(lan: PersistentLan, nics: dict[str, Nic], tmp_path: Path) -> None:
    first = switch_process(lan)
    PersistentLan(lan.folder).attach(tmp_path / "a", "net1", "a")
    assert switch_process(lan) == first
    assert len(nics) == 3
