"""How a machine proves that it belongs to a deployment, over TLS to a server whose key it knows.

The manager has a private key, the others its pin; all have the deployment's secret. A client fetches a challenge, which
is good for one proof within a minute, and answers with a MAC of it and of what it says of itself: what it wants (`join`
or `leave`), its name, and the node of the Swarm that it is already. The secret itself is never sent. What is recorded
of one conversation is of no use in another one.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import http.client
import json
import secrets
import ssl
import tempfile
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from hubsmith.settings.keys import load_private_key, pin

PORT = 2378
#: Seconds that a challenge is good for, how many may be open, and how long one client may take for a message.
GOOD_FOR, OPEN, PATIENCE = 60, 256, 10
#: Seconds for the manager's answer to a proof: it asks its engine, for one client after the other.
ANSWER = 60
#: Clients that are served at once; bytes of a request.
AT_ONCE, LONGEST = 32, 4096


class NotLetIn(Exception):
    """The server refused, or it is not the one whose key is known."""


class Refused(Exception):
    """Raised by what answers: the proof is right, and there is a reason why nothing is given out (it may be told)."""


class Wish(NamedTuple):
    """What a machine of the deployment wants.

    :ivar what: `join` or `leave`.
    :ivar name: of the machine.
    :ivar node: its ID in the Swarm; empty when it is in none.
    """

    what: str
    name: str
    node: str


def proof(secret: str, challenge: str, wish: Wish) -> str:
    """What only somebody with the secret can answer to a challenge."""
    message = json.dumps(["hubsmith-join-2", challenge, wish.what, wish.name, wish.node]).encode()
    return hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()


class Challenges:
    """Those that were given out and not used yet."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._open, self._mutex = clock, dict[str, float](), threading.Lock()

    def new(self) -> str:
        """A challenge for one proof; the oldest is forgotten when too many are open."""
        with self._mutex:
            while len(self._open) >= OPEN:
                del self._open[next(iter(self._open))]
            challenge = secrets.token_hex(32)
            self._open[challenge] = self._clock()
            return challenge

    def use(self, challenge: str) -> bool:
        """Whether it was given out within the last minute, and never used before."""
        with self._mutex:
            made = self._open.pop(challenge, None)
            return made is not None and self._clock() - made <= GOOD_FOR


class Server(ThreadingHTTPServer):
    """Answers those who prove that they belong to the deployment.

    :param address: where it listens.
    :param key: the manager's private key (PEM).
    :param answer: gets a client's wish and returns what it is given, for one client at a time; may raise
        :class:`Refused`.
    :param say: gets a line for the journal.
    """

    daemon_threads = True
    #: A restart must not wait for connections that are still in the kernel.
    allow_reuse_address = True

    def __init__(
        self, address: tuple[str, int], secret: str, key: str, answer: Callable[[Wish], dict[str, Any]],
        say: Callable[[str], None],
    ) -> None:  # fmt: skip
        super().__init__(address, _Handler)
        self.secret, self.answer, self.say = secret, answer, say
        self.challenges = Challenges()
        self.turn = threading.Lock()
        self._tls, self._slots = _server_context(key), threading.BoundedSemaphore(AT_ONCE)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a client in a thread, when not too many are served already."""
        if self._slots.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """The thread of one client: TLS first, so that a slow handshake keeps nobody else waiting."""
        try:
            request.settimeout(PATIENCE)
            with self._tls.wrap_socket(request, server_side=True) as stream:
                self.finish_request(stream, client_address)
        except OSError as error:  # a client that went away, was too slow, or speaks no TLS
            self.say(f"{client_address[0]}: {type(error).__name__}")
        finally:
            self.shutdown_request(request)
            self._slots.release()


def _server_context(key: str) -> ssl.SSLContext:
    """TLS 1.3 with a certificate that says nothing: clients know the key, not a name."""
    private = load_private_key(key)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hubsmith")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=36500))
        .sign(private, None)
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # Python reads keys from files only; this one is in memory (the service has a /tmp of its own).
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(key + "\n" + certificate.public_bytes(Encoding.PEM).decode())
        file.flush()
        context.load_cert_chain(file.name)
    return context


class _Handler(BaseHTTPRequestHandler):
    server: Server
    server_version, sys_version, protocol_version = "hubsmith", "", "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/challenge":
            self._send(200, {"challenge": self.server.challenges.new()})
        else:
            self._send(404, {"why": "there is nothing here"})

    def do_POST(self) -> None:
        # One answer for all that is wrong: whoever does not belong here learns nothing.
        if (wish := self._proven()) is None:
            self.server.say(f"{self.client_address[0]}: refused")
            self._send(403, {"why": "not let in"})
            return
        try:
            with self.server.turn:
                answer = self.server.answer(wish)
        except Refused as error:
            self.server.say(f"{self.client_address[0]}: {wish.name}: {wish.what}: {error}")
            self._send(503, {"why": str(error)})
        else:
            self._send(200, answer)

    def _proven(self) -> Wish | None:
        """The wish of a client whose proof is right; none of any other."""
        length = self.headers.get("Content-Length", "")
        self.close_connection = True
        if not length.isdecimal():
            return None
        # A little more is read than is good for anything: what is left unread would take the answer away with it.
        body = self.rfile.read(min(int(length), 4 * LONGEST))
        if self.path != "/join" or len(body) > LONGEST:
            return None
        try:
            sent = json.loads(body)
            wish = Wish(str(sent["what"]), str(sent["name"]), str(sent["node"]))
            challenge, given = str(sent["challenge"]), str(sent["proof"])
        except (ValueError, KeyError, TypeError):
            return None
        # The challenge is used up first, also by a wrong proof.
        if not self.server.challenges.use(challenge):
            return None
        return (
            wish if hmac.compare_digest(proof(self.server.secret, challenge, wish).encode(), given.encode()) else None
        )

    def _send(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing of the library's own: `say` has the lines that matter."""


def ask(address: str, port: int, wish: Wish, *, pinned: str, secret: str, timeout: float = PATIENCE) -> dict[str, Any]:
    """Prove to a manager who one is, and say what one wants.

    :param pinned: of the manager's key.
    :param timeout: seconds for each message but the last.
    :returns: what it gives to those who belong to the deployment.
    :raises NotLetIn: it has another key, or it refuses.
    :raises OSError: it does not answer.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # No name and no authority: the key itself is known, and is compared before anything is sent.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection(address, port, timeout=timeout, context=context)
    # One connection, whose key was compared; never another one in silence.
    connection.auto_open = 0
    try:
        connection.connect()
        _compare(connection.sock, pinned)
        challenge = _ask(connection, "GET", "/challenge", None)["challenge"]
        sent = {**wish._asdict(), "challenge": challenge, "proof": proof(secret, challenge, wish)}
        connection.sock.settimeout(ANSWER)
        return _ask(connection, "POST", "/join", sent)
    except http.client.HTTPException as error:
        raise NotLetIn(f"{address}: no answer that makes sense ({type(error).__name__})") from error
    finally:
        connection.close()


def _compare(stream: ssl.SSLSocket, pinned: str) -> None:
    certificate = x509.load_der_x509_certificate(stream.getpeercert(binary_form=True) or b"")
    key = certificate.public_key()
    if not isinstance(key, Ed25519PublicKey) or not hmac.compare_digest(pin(key), pinned):
        raise NotLetIn("the manager has another key than the one that the settings name (cluster.pin)")


def _ask(connection: http.client.HTTPSConnection, method: str, path: str, content: Any) -> dict[str, Any]:
    body = None if content is None else json.dumps(content)
    connection.request(method, path, body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    try:
        told = dict(json.loads(answer.read(LONGEST)))
    except ValueError as error:
        raise NotLetIn("no answer that makes sense") from error
    if answer.status != 200:
        raise NotLetIn(str(told.get("why", answer.status)))
    return told
