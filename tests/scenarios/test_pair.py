"""A deployment of two real machines: their private network, and the verbs that act on several machines."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from workshop import hubsmith

from hubsmith.deploy.fleet import Fleet
from hubsmith.deploy.qemu import LAN
from hubsmith.vm.switch import PersistentLan

pytestmark = [pytest.mark.vm, pytest.mark.slow, pytest.mark.needs(memory_mb=4096)]

FILE = Path(__file__).with_name("pair.toml")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[Fleet]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HUBSMITH_STATE", str(tmp_path_factory.mktemp("state")))
        fleet = Fleet(Path(pytestconfig.rootpath), FILE)
        yield fleet
        hubsmith("down", FILE, "--delete")


def test_up_brings_both_in_order(pair: Fleet) -> None:
    told = hubsmith("up", FILE)
    assert told.count("log in at https://127.0.0.1:") == 2
    rows = [line.split("\t") for line in hubsmith("info", FILE, "--plain").splitlines()]
    assert [(row[0], row[1], row[4]) for row in rows] == [
        ("first", "Up-to-date", "10.77.0.10"),
        ("second-1", "Up-to-date", "10.77.0.11"),
    ]
    assert hubsmith("up", FILE) == ""


def test_each_reaches_the_other_with_full_frames_and_not_when_the_network_is_cut(pair: Fleet) -> None:
    ping = "ping -c 1 -W 5 -M do -s 1422 {}"  # 1450 bytes with the headers of IP and ICMP
    with pair.machines()["first"].running() as first, pair.machines()["second-1"].running() as second:
        first.succeed(ping.format("10.77.0.11"))
        assert "10.77.0.10" in second.succeed("cat /etc/hubsmith/settings.toml")
        second.succeed(ping.format("10.77.0.10"))
        # A byte more does not fit: the network's MTU reached the guest.
        assert first.execute("ping -c 1 -W 5 -M do -s 1423 10.77.0.11").rc != 0
        lan = PersistentLan(pair.record.folder / f"lan-{LAN}")
        lan.partition({"first"}, {"second-1"})
        assert first.execute(ping.format("10.77.0.11")).rc != 0
        lan.partition()
        first.succeed(ping.format("10.77.0.11"))


def test_a_command_on_all_and_files_to_and_fro(pair: Fleet, tmp_path: Path) -> None:
    assert hubsmith("ssh-for-each", FILE, "hostname").splitlines() == ["first: first", "second-1: second-1"]
    assert hubsmith("ssh-for-each", FILE, "--on", "second", "hostname") == "second-1: second-1\n"
    with pytest.raises(subprocess.CalledProcessError):
        hubsmith("ssh-for-each", FILE, "test $(hostname) = first")
    (tmp_path / "a").write_text("to and fro")
    hubsmith("scp", FILE, tmp_path / "a", "second-1:/tmp/b")
    hubsmith("scp", FILE, "second-1:/tmp/b", tmp_path / "c")
    assert (tmp_path / "c").read_text() == "to and fro"


def test_reboot_and_check(pair: Fleet) -> None:
    with pair.machines()["second-1"].running() as second:
        before = second.boot_id()
    hubsmith("reboot", FILE, "second")
    with pair.machines()["second-1"].running() as second:
        assert second.boot_id() != before
        second.succeed("ping -c 1 -W 5 10.77.0.10")
    hubsmith("check", FILE, "--quick")
