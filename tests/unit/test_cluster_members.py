"""Who is let in by whom: the manager's members, its firewall and its join service, over real connections.

The container engine is a model of the parts of Docker Swarm that matter here. They were compared with Docker 26: a
node's address is the one that the manager sees, and a node that was removed does not notice.
"""

from __future__ import annotations

import http.client
import json
import re
import ssl
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hubsmith.guest.programs import Failed
from hubsmith.settings.keys import new_private_key
from hubsmith_docker import engine
from hubsmith_swarm_cluster import network, protocol
from hubsmith_swarm_manager import join_service, members
from hubsmith_swarm_worker import worker

SECRET, OTHER = "s" * 40, "t" * 40
#: Addresses of this computer's loopback interface: those of two workers and of a machine of nobody.
FIRST, SECOND, NEIGHBOUR = "127.0.0.2", "127.0.0.3", "127.0.0.4"


class Swarm:
    """Answers `docker` and `nft` for a manager. ``nodes``: state and address of each worker, by its ID."""

    def __init__(self) -> None:
        self.nodes = dict[str, tuple[str, str]]()
        self.tables = list[str]()

    def run(self, *argv: object, stdin: str = "", **_: object) -> str:
        match [str(one) for one in argv]:
            case ["nft", *_]:
                self.tables.append(stdin)
                return ""
            case ["docker", "info", *_]:
                return json.dumps({"LocalNodeState": "active", "ControlAvailable": True, "Cluster": {"ID": "swarm"}})
            case ["docker", "node", "ls", *_]:
                return "\n".join(self.nodes)
            case ["docker", "node", "inspect", *ids]:
                return json.dumps([self._node(one) for one in ids])
            case ["docker", "node", "rm", "--force", node]:
                del self.nodes[node]
                return node
            case ["docker", "swarm", "join-token", *_]:
                return "SWMTKN"
            case other:
                raise AssertionError(other)

    def _node(self, node: str) -> dict[str, Any]:
        state, address = self.nodes[node]
        return {"ID": node, "Description": {"Hostname": node}, "Status": {"State": state, "Addr": address}}

    def let_in(self) -> set[str]:
        """Return the addresses in the firewall."""
        return set(re.findall(r"[0-9.]{7,}", self.tables[-1]))


@pytest.fixture
def swarm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Swarm:
    swarm = Swarm()
    for module in (engine, members):
        monkeypatch.setattr(module, "run", swarm.run)
    monkeypatch.setattr(members, "FILE", tmp_path / "cluster.json")
    return swarm


# The members


def test_a_secret_is_in_effect_once_it_is_saved(swarm: Swarm) -> None:
    fresh = members.Members(SECRET)
    assert (fresh.in_effect, fresh.addresses) == (False, [])
    assert not members.Members(SECRET).in_effect
    fresh.save()
    assert fresh.in_effect
    assert members.Members(SECRET).in_effect


def test_members_outlive_the_service_but_not_their_secret(swarm: Swarm) -> None:
    first = members.Members(SECRET)
    first.admit(FIRST)
    assert members.Members(SECRET).addresses == [FIRST]
    other = members.Members(OTHER)
    assert (other.in_effect, other.addresses) == (False, [])
    other.save()
    assert members.Members(SECRET).addresses == []


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '"text"'])
def test_a_damaged_file_lets_nobody_in(swarm: Swarm, content: str) -> None:
    members.FILE.write_text(content)
    found = members.Members(SECRET)
    assert (found.in_effect, found.addresses) == (False, [])


def test_the_file_is_roots_alone_and_does_not_hold_the_secret(swarm: Swarm) -> None:
    members.Members(SECRET).admit(FIRST)
    assert stat.S_IMODE(members.FILE.stat().st_mode) == 0o600
    assert SECRET not in members.FILE.read_text()


def test_a_machine_that_does_not_come_again_is_forgotten(swarm: Swarm) -> None:
    now = 0.0
    found = members.Members(SECRET, lambda: now)
    found.admit(FIRST)
    now = members.FORGET - 1.0
    found.admit(SECOND)
    assert swarm.let_in() == {FIRST, SECOND}
    now = members.FORGET + 1.0
    found.admit(SECOND)
    assert swarm.let_in() == {SECOND}
    assert members.Members(SECRET).addresses == [SECOND]


def test_a_restarted_service_gives_every_member_its_time(swarm: Swarm) -> None:
    """Whatever the time of day says, which may be wrong after a reboot."""
    members.Members(SECRET, lambda: 0.0).admit(FIRST)
    later = members.Members(SECRET, lambda: 1e9)
    later.admit(SECOND)
    assert swarm.let_in() == {FIRST, SECOND}


def test_a_firewall_that_was_lost_is_there_again_with_the_next_proof(swarm: Swarm) -> None:
    found = members.Members(SECRET)
    found.admit(FIRST)
    swarm.tables.clear()
    found.admit(FIRST)
    assert swarm.let_in() == {FIRST}


def test_a_machine_that_the_firewall_does_not_let_in_is_tried_again(
    swarm: Swarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*argv: object, **_: object) -> str:
        raise Failed("nft: no")

    found = members.Members(SECRET)
    with monkeypatch.context() as patch:
        patch.setattr(members, "run", fail)
        with pytest.raises(Failed):
            found.admit(FIRST)
    found.admit(FIRST)
    assert swarm.let_in() == {FIRST}


def test_ports_of_peers_are_closed_to_others_except_the_join_services(swarm: Swarm) -> None:
    ports = [
        {"number": 2049, "protocol": "tcp", "audience": "peers"},
        {"number": 4789, "protocol": "udp", "audience": "peers"},
        {"number": protocol.PORT, "protocol": "tcp", "audience": "peers"},
        {"number": 443, "protocol": "tcp", "audience": "all"},
    ]
    members.firewall(ports, [SECOND, FIRST])
    (table,) = swarm.tables
    assert re.findall(r"saddr != @members (.*) drop", table) == ["tcp dport 2049", "udp dport 4789"]
    assert swarm.let_in() == {FIRST, SECOND}
    members.firewall(None, ())
    assert "drop" not in swarm.tables[-1]


# The join service


@pytest.fixture
def ask(swarm: Swarm, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., tuple[int, Any]]]:
    """A join service as its unit starts it; sends a request to it from an address."""
    monkeypatch.setattr(join_service, "SETTINGS", tmp_path / "join.json")
    monkeypatch.setattr(join_service, "SWARM_FILE", tmp_path / "swarm.json")
    monkeypatch.setattr(join_service, "PORT", 0)
    join_service.SETTINGS.write_text(json.dumps({"secret": SECRET, "key": new_private_key()}))
    join_service.SWARM_FILE.write_text(json.dumps({"address": "127.0.0.1"}))
    made = list[protocol.Server]()
    ready = threading.Event()

    class Server(protocol.Server):
        def serve_forever(self, poll_interval: float = 0.05) -> None:
            made.append(self)
            ready.set()
            super().serve_forever(0.05)

    monkeypatch.setattr(join_service, "Server", Server)
    thread = threading.Thread(target=join_service.main)
    thread.start()
    assert ready.wait(10)
    (server,) = made
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

    def ask(address: str, *request: str, secret: str = SECRET) -> tuple[int, Any]:
        wish = protocol.NodeRequest(*request)
        stream = http.client.HTTPSConnection(
            "127.0.0.1", server.server_address[1], timeout=5, context=context, source_address=(address, 0)
        )
        stream.request("GET", "/challenge")
        challenge = json.loads(stream.getresponse().read())["challenge"]
        sent = {**wish._asdict(), "challenge": challenge, "proof": protocol.proof(secret, challenge, wish)}
        stream.request("POST", "/join", json.dumps(sent))
        answer = stream.getresponse()
        return answer.status, json.loads(answer.read())

    yield ask
    server.shutdown()
    server.server_close()
    thread.join(10)


def test_a_proof_opens_the_firewall_to_the_machine_that_sent_it(
    swarm: Swarm, ask: Callable[..., tuple[int, Any]]
) -> None:
    code, told = ask(FIRST, "join", "worker-1", "")
    assert (code, told["token"], told["node"]) == (200, "SWMTKN", "")
    assert swarm.let_in() == {FIRST}


def test_without_a_proof_the_firewall_stays_closed(swarm: Swarm, ask: Callable[..., tuple[int, Any]]) -> None:
    assert ask(NEIGHBOUR, "join", "worker-1", "", secret=OTHER)[0] == 403
    assert swarm.tables == []
    assert not members.FILE.exists()


def test_a_machine_with_the_secret_cannot_remove_another_ones_node(
    swarm: Swarm, ask: Callable[..., tuple[int, Any]]
) -> None:
    """Neither by leaving in its name nor, while it is away for a moment, by taking its place."""
    swarm.nodes = {"one": ("ready", FIRST), "two": ("ready", SECOND)}
    for address, node in ((FIRST, "one"), (SECOND, "two")):
        ask(address, "join", node, node)
    assert ask(SECOND, "leave", "one", "one") == (200, {})
    assert set(swarm.nodes) == {"one", "two"}
    swarm.nodes["one"] = ("down", FIRST)
    for name in ("one", "two"):
        assert ask(SECOND, "join", name, "two")[0] == 200
        assert ask(NEIGHBOUR, "join", name, "")[0] == 200
    assert swarm.nodes == {"one": ("down", FIRST), "two": ("ready", SECOND)}


def test_a_machine_that_leaves_removes_its_own_node(swarm: Swarm, ask: Callable[..., tuple[int, Any]]) -> None:
    swarm.nodes = {"one": ("ready", FIRST), "two": ("ready", SECOND)}
    assert ask(FIRST, "leave", "worker-1", "one") == (200, {})
    assert set(swarm.nodes) == {"two"}


def test_a_machine_replaces_the_earlier_one_at_its_address(swarm: Swarm, ask: Callable[..., tuple[int, Any]]) -> None:
    swarm.nodes = {"earlier": ("down", FIRST), "running": ("ready", FIRST)}
    ask(FIRST, "join", "worker-1", "")
    assert set(swarm.nodes) == {"running"}


def test_nodes_of_machines_that_are_gone_are_removed(swarm: Swarm, ask: Callable[..., tuple[int, Any]]) -> None:
    swarm.nodes = {"gone": ("down", NEIGHBOUR), "never": ("down", ""), "starting": ("unknown", "")}
    ask(FIRST, "join", "worker-1", "")
    assert set(swarm.nodes) == {"starting"}


def test_a_machine_learns_that_its_node_was_removed(swarm: Swarm, ask: Callable[..., tuple[int, Any]]) -> None:
    swarm.nodes = {"one": ("ready", FIRST)}
    assert ask(FIRST, "join", "worker-1", "one")[1]["node"] == "one"
    del swarm.nodes["one"]
    assert ask(FIRST, "join", "worker-1", "one")[1]["node"] == ""


# The worker


STATE = {
    "LocalNodeState": "active", "NodeID": "one", "NodeAddr": FIRST, "RemoteManagers": [{"Addr": "127.0.0.1:2377"}],
}  # fmt: skip
GIVEN = {"cluster": "swarm", "manager": "127.0.0.1:2377", "node": "one"}


@pytest.mark.parametrize(
    ("changed", "joins"),
    [({}, False), ({"node": ""}, True), ({"cluster": "new"}, True), ({"manager": "127.0.0.9:2377"}, True)],
    ids=["in it", "removed", "a new Swarm", "another manager"],
)
def test_a_worker_joins_again_when_it_must(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, changed: dict[str, str], joins: bool
) -> None:
    done = list[str]()
    monkeypatch.setattr(worker, "CLUSTER", tmp_path / "cluster")
    worker.CLUSTER.write_text("swarm")
    monkeypatch.setattr(worker, "docker", lambda *words: done.append(" ".join(words)))
    monkeypatch.setattr(worker, "gateway", lambda: None)
    monkeypatch.setattr(worker, "join", lambda given, address: done.append("join"))
    worker.in_swarm({**GIVEN, **changed}, STATE, FIRST)
    assert done == (["swarm leave --force", "join"] if joins else [])


def test_the_way_to_the_manager_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the real `ip`, on this computer's loopback interface."""
    network.check_way("127.0.0.1", "127.0.0.1")
    with pytest.raises(Failed, match=r"127\.0\.0\.1 leave by lo from 127\.0\.0\.1, not from .*10\.77\.0\.11"):
        network.check_way("127.0.0.1", "10.77.0.11")
