"""Challenge-response protocol with which a machine proves to the Swarm manager that it belongs to the deployment.

It runs over TLS. The manager has a private key, and the other machines have its fingerprint (the pin). All machines
have the deployment's secret. A client fetches a challenge, which is valid for one proof within a minute. It answers
with its request (`join` or `leave`, its name, and its node ID if it is in the Swarm already) and a MAC of challenge and
request. The secret itself is never sent, and a recorded conversation cannot be replayed.
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
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from hubsmith.settings.keys import load_private_key, pin

PORT = 2378
#: Validity of a challenge in seconds, and the seconds a client may take for a message.
GOOD_FOR, PATIENCE = 60, 10
#: Open challenges of all addresses, and of one. A flood from one address costs the others nothing.
OPEN, OPEN_EACH = 256, 8
#: Timeout in seconds for the manager's answer to a proof. It queries its engine for one client at a time.
ANSWER = 60
#: Connections served in parallel, and those from one address.
AT_ONCE, AT_ONCE_EACH = 32, 4
#: Maximum length of a request in bytes.
LONGEST = 4096


class JoinDenied(Exception):
    """The server denied the request, or its key does not match the pin."""


class Refused(Exception):
    """Raised by a server's ``answer`` if the proof is valid but the answer is no. The client sees the text."""


class NodeRequest(NamedTuple):
    """Request of a machine of the deployment.

    :ivar what: `join` or `leave`.
    :ivar name: name of the machine.
    :ivar node: its node ID in the Swarm; empty if it is in none.
    """

    what: str
    name: str
    node: str


def proof(secret: str, challenge: str, request: NodeRequest) -> str:
    """Compute the MAC of a challenge and a request, which takes the secret."""
    message = json.dumps(["hubsmith-join-2", challenge, request.what, request.name, request.node]).encode()
    return hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()


class Challenges:
    """Challenges that were issued and not used yet."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._open, self._mutex = clock, dict[str, tuple[float, str]](), threading.Lock()

    def new(self, address: str) -> str:
        """Issue a challenge for one proof. If too many are open, the oldest of this address is dropped, or of all."""
        with self._mutex:
            of_it = [challenge for challenge, (_, owner) in self._open.items() if owner == address]
            if len(of_it) >= OPEN_EACH:
                del self._open[of_it[0]]
            elif len(self._open) >= OPEN:
                del self._open[next(iter(self._open))]
            challenge = secrets.token_hex(32)
            self._open[challenge] = self._clock(), address
            return challenge

    def use(self, challenge: str) -> bool:
        """Use up a challenge; return whether it was issued within the last minute and not used before."""
        with self._mutex:
            issued = self._open.pop(challenge, None)
            return issued is not None and self._clock() - issued[0] <= GOOD_FOR


class Server(ThreadingHTTPServer):
    """HTTPS server that answers machines which prove that they belong to the deployment.

    :param address: host and port to listen on.
    :param key: the manager's private key (PEM).
    :param answer: called with a request and the client's address, for one client at a time. Returns the answer, or
        raises :class:`Refused`.
    :param report: called with a line for the journal.
    """

    daemon_threads = True
    #: A restart must not wait for connections that are still in the kernel.
    allow_reuse_address = True

    def __init__(
        self, address: tuple[str, int], secret: str, key: str,
        answer: Callable[[NodeRequest, str], dict[str, Any]], report: Callable[[str], None],
    ) -> None:  # fmt: skip
        super().__init__(address, _Handler)
        self.secret, self.answer, self.report = secret, answer, report
        self.challenges = Challenges()
        self.turn = threading.Lock()
        self._tls, self._mutex, self._served = _server_context(key), threading.Lock(), Counter[str]()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a client in a thread; close the connection if too many are served already."""
        with self._mutex:
            full = self._served.total() >= AT_ONCE or self._served[client_address[0]] >= AT_ONCE_EACH
            if not full:
                self._served[client_address[0]] += 1
        if full:
            self.shutdown_request(request)
        else:
            super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve a client in its thread. The TLS handshake is done here, so that a slow one delays no other client."""
        try:
            request.settimeout(PATIENCE)
            with self._tls.wrap_socket(request, server_side=True) as stream:
                self.finish_request(stream, client_address)
        except OSError as error:  # a client that went away, was too slow, or speaks no TLS
            self.report(f"{client_address[0]}: {type(error).__name__}")
        finally:
            self.shutdown_request(request)
            with self._mutex:
                self._served -= Counter((client_address[0],))  # drops those at 0


def _server_context(key: str) -> ssl.SSLContext:
    """Create a TLS 1.3 context with a dummy certificate: clients compare the key, not the name."""
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
            self._send(200, {"challenge": self.server.challenges.new(str(self.client_address[0]))})
        else:
            self._send(404, {"why": "there is nothing here"})

    def do_POST(self) -> None:
        # The same answer to every invalid request, so that a stranger learns nothing.
        if (request := self._proven()) is None:
            self.server.report(f"{self.client_address[0]}: refused")
            self._send(403, {"why": "access denied"})
            return
        try:
            with self.server.turn:
                answer = self.server.answer(request, str(self.client_address[0]))
        except Refused as error:
            self.server.report(f"{self.client_address[0]}: {request.name}: {request.what}: {error}")
            self._send(503, {"why": str(error)})
        else:
            self._send(200, answer)

    def _proven(self) -> NodeRequest | None:
        """Read a request and return it if its proof is valid, else None."""
        length = self.headers.get("Content-Length", "")
        self.close_connection = True
        if not length.isdecimal() or len(length) > 9:  # Python refuses to convert thousands of digits
            return None
        # Read a longer body, too: closing a socket with unread data resets the connection, and the answer is lost.
        body = self.rfile.read(min(int(length), 4 * LONGEST))
        if self.path != "/join" or len(body) > LONGEST:
            return None
        try:
            sent = json.loads(body)
            request = NodeRequest(str(sent["what"]), str(sent["name"]), str(sent["node"]))
            challenge, given = str(sent["challenge"]), str(sent["proof"])
        except (ValueError, KeyError, TypeError):
            return None
        # A wrong proof uses up the challenge, too.
        if not self.server.challenges.use(challenge):
            return None
        return (
            request
            if hmac.compare_digest(proof(self.server.secret, challenge, request).encode(), given.encode())
            else None
        )

    def _send(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Suppress the library's log; ``report`` gets the relevant lines."""


def ask(
    address: str, port: int, request: NodeRequest, *, pinned: str, secret: str, timeout: float = PATIENCE
) -> dict[str, Any]:
    """Send a request with a proof to the manager and return its answer.

    :param pinned: pin of the manager's key.
    :param timeout: seconds for each message except the last, which has :data:`ANSWER`.
    :raises JoinDenied: the manager has another key, or it denied the request.
    :raises OSError: the manager does not answer.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # There is no name and no authority to verify. The key is compared with the pin before anything is sent.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection(address, port, timeout=timeout, context=context)
    # Only this connection's key was compared, so http.client must not reconnect on its own.
    connection.auto_open = 0
    try:
        connection.connect()
        _compare(connection.sock, pinned)
        challenge = _ask(connection, "GET", "/challenge", None)["challenge"]
        sent = {**request._asdict(), "challenge": challenge, "proof": proof(secret, challenge, request)}
        connection.sock.settimeout(ANSWER)
        return _ask(connection, "POST", "/join", sent)
    except http.client.HTTPException as error:
        raise JoinDenied(f"{address}: no answer that makes sense ({type(error).__name__})") from error
    finally:
        connection.close()


def _compare(stream: ssl.SSLSocket, pinned: str) -> None:
    certificate = x509.load_der_x509_certificate(stream.getpeercert(binary_form=True) or b"")
    key = certificate.public_key()
    if not isinstance(key, Ed25519PublicKey) or not hmac.compare_digest(pin(key), pinned):
        raise JoinDenied("the manager has another key than the one that the settings name (cluster.pin)")


def _ask(connection: http.client.HTTPSConnection, method: str, path: str, content: Any) -> dict[str, Any]:
    body = None if content is None else json.dumps(content)
    connection.request(method, path, body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    try:
        answered = dict(json.loads(answer.read(LONGEST)))
    except ValueError as error:
        raise JoinDenied("no answer that makes sense") from error
    if answer.status != 200:
        raise JoinDenied(str(answered.get("why", answer.status)))
    return answered
