"""The QMP client against a peer that breaks the protocol in every way that was thought of.

Against a QEMU that behaves it is tested in ``tests/vm/test_harness_tiny.py``.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hubsmith.errors import HarnessFailed
from hubsmith.vm.qmp import QmpClient, QmpRefused

GREETING = {"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 0}, "package": ""}, "capabilities": []}}
Script = Callable[[socket.socket], None]


class Peer:
    """A fake QEMU: one thread that runs ``script`` on the one connection it accepts."""

    def __init__(self, path: Path, script: Script) -> None:
        self.path = path
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._script = script
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        with connection:
            self._script(connection)

    def close(self) -> None:
        self._listener.close()


def say(connection: socket.socket, message: object) -> None:
    connection.sendall(json.dumps(message).encode() + b"\r\n")


def hear(connection: socket.socket) -> dict[str, object]:
    """The next command; a client ends it with its last brace, not with a line end, and waits before the next."""
    text = ""
    while piece := connection.recv(4096):
        text += piece.decode()
        with contextlib.suppress(json.JSONDecodeError):
            return dict(json.loads(text))
    raise EOFError


def negotiate(connection: socket.socket) -> None:
    say(connection, GREETING)
    assert hear(connection)["execute"] == "qmp_capabilities"
    say(connection, {"return": {}})


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[Callable[[Script], Path]]:
    peers: list[Peer] = []

    def start(script: Script) -> Path:
        peers.append(Peer(tmp_path / f"qmp{len(peers)}.sock", script))
        return peers[-1].path

    yield start
    for one in peers:
        one.close()


def answering(*answers: Callable[[socket.socket, dict[str, object]], None]) -> Script:
    """A peer that negotiates and gives each command in turn to one of ``answers``, then stays until the client goes."""

    def script(connection: socket.socket) -> None:
        negotiate(connection)
        for answer in answers:
            answer(connection, hear(connection))
        connection.recv(1)

    return script


def test_a_command_is_answered(peer: Callable[[Script], Path]) -> None:
    def answer(connection: socket.socket, request: dict[str, object]) -> None:
        assert request["execute"] == "set_link"
        assert request["arguments"] == {"name": "net0", "up": False}
        say(connection, {"return": {"done": True}, "id": request["id"]})

    client = QmpClient(peer(answering(answer)), "hub")
    assert client.execute("set_link", name="net0", up=False) == {"done": True}
    client.close()


def test_a_refusal_keeps_the_class_and_the_words_of_qemu(peer: Callable[[Script], Path]) -> None:
    def answer(connection: socket.socket, request: dict[str, object]) -> None:
        say(connection, {"error": {"class": "DeviceNotFound", "desc": "no net7"}, "id": request["id"]})

    client = QmpClient(peer(answering(answer)), "hub")
    with pytest.raises(QmpRefused, match="QEMU refused `set_link`: no net7") as caught:
        client.execute("set_link", name="net7", up=False)
    assert caught.value.error_class == "DeviceNotFound"
    client.close()


def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(HarnessFailed, match="cannot be reached"):
        QmpClient(tmp_path / "qmp.sock", "hub")


@pytest.mark.parametrize(
    "greeting",
    [b"", b"220 mail.test ESMTP\r\n", b'{"QMP": \r\n', b'{"return": {}}\r\n', b'{"QMP": [1]}\r\n', b"[]\r\n"],
)
def test_a_greeting_that_is_not_qmp(peer: Callable[[Script], Path], greeting: bytes) -> None:
    with pytest.raises(HarnessFailed, match="was lost during the greeting"):
        QmpClient(peer(lambda connection: connection.sendall(greeting)), "hub", timeout=5)


def test_a_peer_that_accepts_and_says_nothing(peer: Callable[[Script], Path]) -> None:
    started = time.monotonic()
    with pytest.raises(HarnessFailed, match=r"did not answer with its greeting \(hub\) within 1 s"):
        QmpClient(peer(lambda connection: time.sleep(10)), "hub", timeout=1)
    assert time.monotonic() - started < 5


def test_a_command_that_is_never_answered_and_then_a_late_answer(peer: Callable[[Script], Path]) -> None:
    late: list[dict[str, object]] = []

    def answer_late(connection: socket.socket, request: dict[str, object]) -> None:
        say(connection, {"return": "late", "id": late[0]["id"]})
        say(connection, {"return": "in time", "id": request["id"]})

    client = QmpClient(peer(answering(lambda _, request: late.append(request), answer_late)), "hub")
    with pytest.raises(HarnessFailed, match="did not answer `query-status` within 0 s"):
        client.execute("query-status", timeout=0.3)
    # The late answer to the first command must not be taken for the answer to the second.
    assert client.execute("query-name") == "in time"
    client.close()


@pytest.mark.parametrize(
    "broken", [b"", b'{"return": {"sta', b"\xff\xfe\x00garbage\r\n", b'{"ret', b"null\r\n", b'{"error": "x"}\r\n']
)
def test_a_reply_that_breaks_off_or_is_garbage(peer: Callable[[Script], Path], broken: bytes) -> None:
    def script(connection: socket.socket) -> None:
        negotiate(connection)
        hear(connection)
        connection.sendall(broken)

    client = QmpClient(peer(script), "hub")
    with pytest.raises(HarnessFailed, match="was lost during `query-status`"):
        client.execute("query-status", timeout=5)
    # The client is not usable any more, says so at once, and can still be closed.
    with pytest.raises(HarnessFailed, match="was lost during `query-name`"):
        client.execute("query-name", timeout=5)
    client.close()
