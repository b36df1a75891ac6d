"""Requests that nobody sends by mistake: NGINX, the proxy and the hub answer or hang up, and go on."""

from __future__ import annotations

import base64
import inspect
import json
import socket
import ssl
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir
from hypothesis.internal.conjecture import providers
from hypothesis.internal.constants_ast import Constants
from scene import Scene

pytestmark = [
    pytest.mark.vm,
    pytest.mark.modules("jupyterhub", "spawner-local"),
    pytest.mark.allow(r"jupyterhub\[", "the hub logs what it was asked"),
]

#: How many batches of :data:`SIZE` requests.
BATCHES = pytest.mark.parametrize("batches", [3, pytest.param(60, marks=pytest.mark.slow)], ids=["short", "long"])
SIZE = 25
UNITS = ("jupyterhub.service", "configurable-http-proxy.service", "nginx.service")

JUNK = st.binary(max_size=60)
TOKENS = st.text("abcXYZ019-_./%\\\"'<>;=&{}[]\x00\x7fé", max_size=40).map(lambda text: text.encode())
STARTS = (
    b"/",
    b"/hub/",
    b"/hub/login",
    b"/hub/logout",
    b"/hub/api/",
    b"/hub/api/users/bob/tokens",
    b"/hub/api/users/bob/server",
    b"/hub/api/oauth2/authorize",
    b"/hub/api/oauth2/token",
    b"/hub/spawn/bob",
    b"/hub/user-redirect/",
    b"/hub/static/",
    b"/user/bob/",
    b"/user/bob/api/contents/",
    b"/user/bob/api/kernels",
    b"/user/carol/",
    b"/hubsmith/",
    b"/services/",
    b"*",
)
PATHS = st.tuples(st.sampled_from(STARTS), TOKENS | JUNK.map(lambda data: data.replace(b"\n", b"")))
BODIES = st.one_of(
    JUNK,
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=20),
        lambda one: st.lists(one, max_size=3) | st.dictionaries(st.sampled_from(["note", "scopes", "roles", "x"]), one),
        max_leaves=6,
    ).map(lambda value: json.dumps(value).encode()),
)
HEADERS = st.lists(
    st.tuples(
        st.sampled_from(
            (
                b"Host",
                b"Cookie",
                b"Authorization",
                b"Content-Type",
                b"Transfer-Encoding",
                b"Connection",
                b"Upgrade",
                b"Expect",
                b"X-Forwarded-For",
                b"X-Real-IP",
                b"X-Hubsmith-Login",
                b"X-XSRFToken",
                b"Range",
                b"Sec-WebSocket-Version",
            )
        ),
        st.sampled_from(
            (
                b"chunked",
                b"Upgrade",
                b"websocket",
                b"100-continue",
                b"application/json",
                b"token x",
                b"bytes=0-,-1",
                b"13",
            )
        )
        | TOKENS
        | JUNK,
    ),
    max_size=5,
)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """One request, more or less."""
    method = draw(
        st.sampled_from((b"GET", b"POST", b"PUT", b"PATCH", b"DELETE", b"HEAD", b"OPTIONS", b"TRACE")) | TOKENS
    )
    start, rest = draw(PATHS)
    body = draw(BODIES)
    length = draw(st.one_of([st.just(len(body))] * 7 + [st.integers(-1, 2**40)]))
    lines = [method + b" " + start + rest + b" HTTP/1.1", b"Host: hub", b"@cookies", b"Content-Length: %d" % length]
    lines += [name + b": " + value for name, value in draw(HEADERS)]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def send_each(connect: Callable[[], socket.socket], batch: list[bytes]) -> list[str]:
    """Send requests one after the other; return the first line of each answer, or the error's name."""
    told = []
    for request in batch:
        try:
            with connect() as line:
                line.settimeout(5)
                line.sendall(request)
                told.append(line.recv(200).split(b"\r\n")[0].decode("latin-1"))
        except OSError as error:
            told.append(type(error).__name__)
    return told


#: The same in a notebook, straight to the hub.
FROM_A_NOTEBOOK = f"""
from __future__ import annotations
import base64, json, socket
{inspect.getsource(send_each)}
batch = [base64.b64decode(one) for one in {{batch!r}}]
print(json.dumps(send_each(lambda: socket.create_connection(("127.0.0.1", 881), 10), batch)))
"""


@pytest.fixture(autouse=True)
def no_constants_of_loaded_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hypothesis would read the source of every loaded module for constants. It has no option for it."""
    monkeypatch.setattr(providers, "_get_local_constants", Constants)


def fuzz(scene: Scene, batches: int, send: Callable[[list[bytes]], list[str]]) -> None:
    """Send batches of requests with bob's cookies, and see that everything goes on."""
    set_hypothesis_home_dir(scene.machine.folder)  # what it remembers is no input
    cookies = "; ".join(f"{one.name}={one.value}" for one in scene.student.http.cookies)
    before = pids(scene)
    answers: Counter[str] = Counter()

    @hypothesis_settings(
        max_examples=batches,
        database=None,
        deadline=None,
        derandomize=batches < 10,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(requests(), min_size=SIZE, max_size=SIZE))
    def run(batch: list[bytes]) -> None:
        line = f"Cookie: {cookies}".encode()
        answers.update(send([request.replace(b"@cookies", line, 1) for request in batch]))
        assert pids(scene) == before

    run()
    print(answers)
    codes = {answer.split(" ")[1] for answer in answers if answer.startswith("HTTP/1.")}
    assert codes & {"400", "404", "405"}
    assert codes & {"200", "302", "403"}, "some requests must be understood"
    assert scene.stranger.request("GET", "/hub/login").status_code == 200


def pids(scene: Scene) -> list[str]:
    """The main processes."""
    return scene.root(f"systemctl show --property=MainPID --value {' '.join(UNITS)}").split()


@BATCHES
def test_what_a_student_sends_to_nginx(scene: Scene, batches: int) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

    def connect() -> socket.socket:
        plain = socket.create_connection(("127.0.0.1", scene.machine.port(443)), 20)
        return context.wrap_socket(plain, suppress_ragged_eofs=True)

    fuzz(scene, batches, lambda batch: send_each(connect, batch))


@BATCHES
def test_what_a_notebook_sends_to_the_hub(scene: Scene, batches: int) -> None:
    def send(batch: list[bytes]) -> list[str]:
        encoded = [base64.b64encode(request).decode() for request in batch]
        return list(json.loads(scene.notebook.python(FROM_A_NOTEBOOK.format(batch=encoded))))

    fuzz(scene, batches, send)
