"""A new `cluster.secret` on the master: what the manager's hook does, and a hook that is killed at any of its steps."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from hubsmith_docker import engine
from hubsmith_swarm_cluster import network
from hubsmith_swarm_manager import apply, members

OLD, NEW = "o" * 40, "n" * 40
MASTER, THIEF = "10.77.0.10", "10.77.0.66"
#: Places where the hook can be killed: before and after each command.
STEPS = 22
PORTS = [{"number": 2377, "protocol": "tcp", "audience": "peers"}]


class Killed(BaseException):
    """Power cut, or `kill -9`."""


class Machine:
    """A master whose hook can be killed before or after each command.

    :ivar swarm: number of the Swarm; 0 if it is in none.
    :ivar made_with: the secret in the settings when the Swarm was made.
    :ivar served: the secret of the running join service; empty if it is stopped.
    :ivar firewall: addresses that the firewall lets in.
    :ivar hub: whether the hub's target is active, which starts the hub's container again.
    """

    def __init__(self) -> None:
        self.made = self.swarm = 0
        self.secret = self.served = self.made_with = ""
        self.firewall = set[str]()
        self.container = self.hub = False
        self.log = list[str]()
        self.deadline: int | None = None

    def run(self, *argv: object, stdin: str = "", **_: object) -> str:
        words = [str(one) for one in argv]
        self.log.append(" ".join(words))
        self._maybe_die()
        answer = self._do(words, stdin)
        # What a thief waits for.
        if self.swarm:
            assert self.served in ("", self.made_with), "the join service lets another secret into the Swarm"
        if self.swarm > 1:
            assert THIEF not in self.firewall
        self._maybe_die()
        return answer

    def _maybe_die(self) -> None:
        if self.deadline is not None:
            if self.deadline == 0:
                raise Killed
            self.deadline -= 1

    def _do(self, words: list[str], stdin: str) -> str:
        match words:
            case ["ip", *_]:
                return json.dumps([{"mtu": 1450, "addr_info": [{"local": MASTER}]}])
            case ["nft", *_]:
                self.firewall = set(re.findall(r"[0-9.]{7,}", stdin))
            case ["systemctl", "stop", *units]:
                self.served = "" if apply.JOIN in units else self.served
                self.hub = self.hub and apply.HUB not in units
            case ["systemctl", "start", *units]:
                if apply.JOIN in units:
                    self.served = self.secret
                if apply.PLACE in units:
                    self.container = True
            case ["docker", "info", *_]:
                active = {"LocalNodeState": "active", "ControlAvailable": True, "NodeAddr": MASTER}
                return json.dumps(active if self.swarm else {"LocalNodeState": "inactive"})
            case ["docker", "rm", *_]:
                # The hub's target upholds the hub, and the hub needs the container's unit.
                self.container = self.hub
            case ["docker", "swarm", "leave", *_]:
                assert not self.container, "the hub's container keeps addresses of the old networks"
                self.swarm = 0
            case ["docker", "swarm", "init", *_]:
                assert self.swarm == 0
                self.made += 1
                self.swarm, self.made_with = self.made, self.secret
        return ""

    def apply(self, secret: str, monkeypatch: pytest.MonkeyPatch, *, swarm: bool = True) -> None:
        """Run the hook, after apply has written the join service's file."""
        self.secret = secret
        cluster = {"network": "10.77.0.0/24", "secret": secret}
        facts = {"swarm": swarm, "swarm_on_master": False}
        context: dict[str, Any] = {"settings": {"cluster": cluster}, "facts": facts, "ports": PORTS}
        monkeypatch.setattr(apply, "read_context", lambda: context)
        apply.main()
        self.hub = True


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    """A master with a Swarm, and a worker that will be stolen."""
    machine = Machine()
    for module in (apply, engine, members, network):
        monkeypatch.setattr(module, "run", machine.run)
    for name in ("DROP_INS", "EXPORTS", "EXPORTS_OF_THE_DAY", "SWARM_FILE", "SAME_PATH"):
        monkeypatch.setattr(apply, name, tmp_path / name)
    monkeypatch.setattr(members, "FILE", tmp_path / "cluster.json")
    apply.EXPORTS.write_text("/home 10.77.0.0/24()\n")
    machine.apply(OLD, monkeypatch)
    members.Members(OLD).admit(THIEF)
    machine.log.clear()
    return machine


def in_order(log: list[str], *wanted: str) -> None:
    places = [next(number for number, line in enumerate(log) if line.startswith(one)) for one in wanted]
    assert places == sorted(places)


def test_the_same_secret_changes_nothing(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    before = members.FILE.read_bytes()
    machine.apply(OLD, monkeypatch)
    assert (machine.swarm, machine.firewall, machine.served) == (1, {THIEF}, OLD)
    assert not [line for line in machine.log if line.startswith(("systemctl stop", "docker swarm"))]
    assert members.FILE.read_bytes() == before


def test_a_new_secret_takes_everything_from_those_with_the_old_one(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.apply(NEW, monkeypatch)
    assert (machine.swarm, machine.firewall, machine.served) == (2, set(), NEW)
    assert members.Members(NEW).in_effect
    assert 2 * len(machine.log) == STEPS
    in_order(
        machine.log, "systemctl stop hubsmith-join", "nft", "systemctl start docker", "systemctl stop hubsmith-hub",
        "docker rm", "docker swarm leave", "docker swarm init", "systemctl start hubsmith-join",
    )  # fmt: skip
    assert "its servers end: cluster.secret is new" in capsys.readouterr().err
    machine.apply(NEW, monkeypatch)
    assert machine.swarm == 2


@pytest.mark.parametrize("step", range(STEPS))
def test_a_hook_that_is_killed_is_finished_by_the_next_one(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    machine.deadline = step
    with pytest.raises(Killed):
        machine.apply(NEW, monkeypatch)
    machine.deadline = None
    machine.apply(NEW, monkeypatch)
    assert (machine.made_with, machine.served, machine.firewall) == (NEW, NEW, set())
    assert members.Members(NEW).in_effect
    last = machine.swarm
    machine.apply(NEW, monkeypatch)
    assert machine.swarm == last


def test_going_back_to_the_old_secret_does_not_bring_its_members_back(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.apply(NEW, monkeypatch)
    machine.apply(OLD, monkeypatch)
    assert (machine.swarm, machine.firewall) == (3, set())


def test_a_secret_that_changes_while_the_swarm_is_off_counts(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.apply(OLD, monkeypatch, swarm=False)
    machine.served = ""
    machine.apply(NEW, monkeypatch)
    assert (machine.swarm, machine.firewall) == (2, set())


def test_without_a_swarm_nothing_of_it_stays(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.apply(OLD, monkeypatch, swarm=False)
    assert not apply.EXPORTS_OF_THE_DAY.exists()
    assert machine.log[-1].startswith("nft")
    assert machine.firewall == set()
