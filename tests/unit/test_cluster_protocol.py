"""A manager and those who come to it, over real TLS connections on this computer."""

from __future__ import annotations

import http.client
import json
import select
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from hubsmith.settings.keys import new_private_key, pin_of
from hubsmith.vm.waits import wait_until
from hubsmith_swarm_cluster import protocol

SECRET = "s" * 43
REQUEST = protocol.NodeRequest("join", "worker-1", "n0de")


class Manager:
    """A server that gives out a token."""

    def __init__(self) -> None:
        self.key, self.said, self.came = new_private_key(), list[str](), list[Any]()
        self.addresses = set[str]()
        self.server: Any = protocol.Server(("127.0.0.1", 0), SECRET, self.key, self.answer, self.said.append)
        self.port = int(self.server.server_address[1])
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self.thread.start()

    def answer(self, request: Any, address: str) -> dict[str, str]:
        if request.name == "unready":
            raise protocol.Refused("the swarm is not there yet")
        self.came.append(request)
        self.addresses.add(address)
        return {"token": "SWMTKN"}

    def join(self, request: Any = REQUEST, **other: Any) -> dict[str, Any]:
        asked = {"pinned": pin_of(self.key), "secret": SECRET, "timeout": 5, **other}
        told: dict[str, Any] = protocol.ask("127.0.0.1", self.port, request, **asked)
        return told

    def raw(self, address: str = "127.0.0.1") -> http.client.HTTPSConnection:
        """Somebody who speaks the protocol by hand, from an address of this computer."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return http.client.HTTPSConnection(
            "127.0.0.1", self.port, timeout=5, context=context, source_address=(address, 0)
        )

    def send(self, connection: http.client.HTTPSConnection, content: Any) -> tuple[int, Any]:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        connection.request("POST", "/join", body)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())

    def challenge(self, connection: http.client.HTTPSConnection) -> str:
        connection.request("GET", "/challenge")
        return str(json.loads(connection.getresponse().read())["challenge"])


@pytest.fixture
def manager() -> Iterator[Manager]:
    manager = Manager()
    yield manager
    manager.server.shutdown()
    manager.server.server_close()
    manager.thread.join(10)


NOTHING = (403, {"why": "access denied"})


def test_who_has_the_secret_is_let_in(manager: Manager) -> None:
    assert manager.join() == {"token": "SWMTKN"}
    assert (manager.came, manager.addresses) == ([REQUEST], {"127.0.0.1"})


def test_a_wrong_secret_gets_nothing(manager: Manager) -> None:
    with pytest.raises(protocol.JoinDenied, match="access denied"):
        manager.join(secret="t" * 43)
    assert (manager.came, manager.said) == ([], ["127.0.0.1: refused"])


def test_a_manager_with_another_key_learns_nothing(manager: Manager) -> None:
    """Not even a proof for one of its challenges."""
    with pytest.raises(protocol.JoinDenied, match="another key"):
        manager.join(pinned=pin_of(new_private_key()))
    manager.server.shutdown()
    assert manager.server.challenges._open == {}


def test_what_was_recorded_is_of_no_use_again(manager: Manager) -> None:
    connection = manager.raw()
    challenge = manager.challenge(connection)
    sent = {**REQUEST._asdict(), "challenge": challenge, "proof": protocol.proof(SECRET, challenge, REQUEST)}
    assert manager.send(connection, sent) == (200, {"token": "SWMTKN"})
    assert manager.send(manager.raw(), sent) == NOTHING


@pytest.mark.parametrize("changed", [{"name": "worker-2"}, {"what": "leave"}, {"node": "0ther"}])
def test_a_proof_is_for_one_wish(manager: Manager, changed: dict[str, str]) -> None:
    connection = manager.raw()
    challenge = manager.challenge(connection)
    sent = {**REQUEST._asdict(), "challenge": challenge, "proof": protocol.proof(SECRET, challenge, REQUEST)}
    assert manager.send(connection, sent | changed) == NOTHING
    # A wrong proof has used the challenge up: there is one guess for each.
    assert manager.send(manager.raw(), sent) == NOTHING


def test_a_challenge_of_the_clients_own_is_none(manager: Manager) -> None:
    made = protocol.proof(SECRET, "mine", REQUEST)
    assert manager.send(manager.raw(), {**REQUEST._asdict(), "challenge": "mine", "proof": made}) == NOTHING


def test_a_challenge_grows_old() -> None:
    now = 0.0
    challenges = protocol.Challenges(lambda: now)
    first, second = challenges.new("a"), challenges.new("a")
    now = 60.0
    assert challenges.use(first)
    now = 60.1
    assert not challenges.use(second)


def test_whoever_asks_for_many_challenges_fills_no_memory() -> None:
    challenges = protocol.Challenges()
    given = [challenges.new(str(number)) for number in range(1000)]
    assert len(challenges._open) == 256
    assert challenges.use(given[-1])
    assert not challenges.use(given[0])


def test_whoever_asks_for_many_challenges_takes_none_from_others(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "OPEN", 3 * protocol.OPEN_EACH)  # 256 take 10 s
    honest, neighbour = manager.raw(), manager.raw("127.0.0.2")
    challenge = manager.challenge(honest)
    flood = [manager.challenge(neighbour) for _ in range(protocol.OPEN)]
    sent = {**REQUEST._asdict(), "challenge": challenge, "proof": protocol.proof(SECRET, challenge, REQUEST)}
    assert manager.send(honest, sent) == (200, {"token": "SWMTKN"})
    use = manager.server.challenges.use
    assert [use(one) for one in flood[-protocol.OPEN_EACH - 1 :]] == [False, *[True] * protocol.OPEN_EACH]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'"text"',
        b"{}",
        b'{"challenge": 1}',
        json.dumps({**REQUEST._asdict(), "challenge": "x", "proof": "ß"}).encode(),
        b"\xff\xfe",
        b"x" * 4097,
    ],
    ids=lambda content: repr(content[:8]),
)
def test_what_is_no_proof_gets_nothing(manager: Manager, content: bytes) -> None:
    assert manager.send(manager.raw(), content) == NOTHING
    assert manager.join() == {"token": "SWMTKN"}


def test_a_manager_that_is_not_ready_says_so(manager: Manager) -> None:
    with pytest.raises(protocol.JoinDenied, match="the swarm is not there yet"):
        manager.join(REQUEST._replace(name="unready"))


def test_strangers_who_say_nothing_keep_nobody_waiting(manager: Manager) -> None:
    """With more connections than are served in parallel, from an address of their own."""
    place = ("127.0.0.1", manager.port)
    idle = [socket.create_connection(place, source_address=("127.0.0.2", 0)) for _ in range(2 * protocol.AT_ONCE)]
    # Those that are not served see the end of the connection.
    wait_until("the server to be busy", lambda: len(select.select(idle, [], [], 0)[0]) >= protocol.AT_ONCE, timeout=10)
    began = time.monotonic()
    assert manager.join() == {"token": "SWMTKN"}
    assert time.monotonic() - began < 5
    for one in idle:
        one.close()


def test_a_connection_that_ended_makes_room_for_the_next(manager: Manager) -> None:
    for _ in range(3 * protocol.AT_ONCE_EACH):
        assert manager.join() == {"token": "SWMTKN"}
    manager.server.shutdown()
    wait_until("all to end", lambda: manager.server._served.total() == 0, timeout=10)


def test_old_tls_and_plain_http_get_nothing(manager: Manager) -> None:
    plain = http.client.HTTPConnection("127.0.0.1", manager.port, timeout=5)
    with pytest.raises((http.client.HTTPException, OSError)):
        plain.request("GET", "/challenge")
        plain.getresponse()
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError), socket.create_connection(("127.0.0.1", manager.port)) as raw:
        context.wrap_socket(raw)


def test_no_line_of_the_journal_holds_a_secret(manager: Manager) -> None:
    manager.join()
    with pytest.raises(protocol.JoinDenied):
        manager.join(secret="t" * 43)
    assert not [line for line in manager.said if SECRET in line or "SWMTKN" in line]
