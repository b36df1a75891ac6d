"""Parsers and HTTP servers of ours, with input that means harm: an error for people, or an answer, and nothing else.

A short run with the fast tests, always with the same examples; a long one with new ones is slow.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import ssl
import string
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli_w
import yaml
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from test_cluster_protocol import Manager

from hubsmith.definition import load_image
from hubsmith.definition.load import load_modules
from hubsmith.definition.schemas import schemas
from hubsmith.deploy.hosts import load_deployment
from hubsmith.deploy.user_data import user_data
from hubsmith.errors import DefinitionError, HubsmithError, LockError
from hubsmith.guest import secrets
from hubsmith.lock.files import load as load_lock
from hubsmith.paths import project_root
from hubsmith.release.folder import ABOUT, REPORT, Release, unproven
from hubsmith.settings.errors import SettingsError
from hubsmith.settings.load import parse
from hubsmith.vm.metadata_server import Handler

ROOT = project_root(Path(__file__))
SCHEMA = schemas(ROOT)["master"]
#: How often each is tried.
TRIES = pytest.mark.parametrize("tries", [60, pytest.param(5000, marks=pytest.mark.slow)], ids=["short", "long"])

KEYS = st.text(string.ascii_lowercase + "_-", min_size=1, max_size=12)
#: TOML has no null; JSON has no dates.
SCALARS = st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text(max_size=40) | st.dates()
VALUES = st.recursive(
    SCALARS, lambda one: st.lists(one, max_size=4) | st.dictionaries(KEYS, one, max_size=4), max_leaves=8
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40),
    lambda one: st.lists(one, max_size=4) | st.dictionaries(KEYS, one, max_size=4),
    max_leaves=8,
)


def fuzz(strategy: st.SearchStrategy[Any], tries: int, check: Callable[[Any], None]) -> None:
    """Call a function with many examples."""
    quick = tries < 1000
    checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    limits = hypothesis_settings(
        max_examples=tries, deadline=None, database=None, derandomize=quick, suppress_health_check=checks
    )
    limits(given(strategy)(lambda example: check(example)))()


def tables(*names: str) -> st.SearchStrategy[bytes]:
    """TOML with some known names and any values."""
    keys = st.sampled_from(names) | KEYS
    return st.dictionaries(keys, VALUES, max_size=5).map(lambda table: tomli_w.dumps(table).encode())


def damaged(good: bytes) -> st.SearchStrategy[bytes]:
    """A good file in which some bytes are other ones."""
    places = st.tuples(st.integers(0, len(good)), st.integers(0, 20), st.binary(max_size=20))
    return places.map(lambda one: good[: one[0]] + one[2] + good[one[0] + one[1] :])


def known_fields() -> st.SearchStrategy[bytes]:
    """Settings whose tables have the right names of keys, and any values."""

    def table(name: str) -> st.SearchStrategy[dict[str, Any]]:
        fields = list(SCHEMA.tables[name].model.model_fields)
        content = st.dictionaries(st.sampled_from(fields) if fields else KEYS, VALUES, max_size=4)
        many = SCHEMA.tables[name].many
        return (st.lists(content, max_size=3) if many else content).map(lambda value: {name: value})

    return st.sampled_from(sorted(SCHEMA.tables)).flatmap(table).map(lambda one: tomli_w.dumps(one).encode())


@TRIES
def test_settings(tries: int) -> None:
    def check(data: bytes) -> None:
        try:
            parse(data, "settings.toml", SCHEMA)
        except SettingsError as error:
            assert error.problems
            assert all(problem.what for problem in error.problems)

    good = (ROOT / "tests/unit/settings_good/everything.toml").read_bytes()
    fuzz(st.binary(max_size=200) | damaged(good) | tables(*SCHEMA.tables) | known_fields(), tries, check)


@TRIES
def test_images(tries: int, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    file = tmp_path / "images/some.toml"

    def check(data: bytes) -> None:
        file.write_bytes(data)
        try:
            load_image(tmp_path, "some")
        except DefinitionError as error:
            assert error.where

    good = (ROOT / "images/master.toml").read_bytes()
    fuzz(st.binary(max_size=200) | damaged(good) | tables("image", "disk", "kernel", "openstack"), tries, check)


@TRIES
def test_modules(tries: int, tmp_path: Path) -> None:
    folder = tmp_path / "modules/some"
    folder.mkdir(parents=True)

    def check(data: bytes) -> None:
        (folder / "module.toml").write_bytes(data)
        try:
            load_modules(tmp_path)
        except DefinitionError as error:
            assert error.where

    good = (ROOT / "modules/jupyterhub/module.toml").read_bytes()
    names = ("module", "packages", "units", "modes", "state", "ports", "settings", "templates", "kernel")
    fuzz(st.binary(max_size=200) | damaged(good) | tables(*names), tries, check)


@TRIES
def test_hosts(tries: int, tmp_path: Path) -> None:
    (tmp_path / "hosts").mkdir()
    file = tmp_path / "hosts/some.toml"

    def check(data: bytes) -> None:
        file.write_bytes(data)
        try:
            load_deployment(file)
        except DefinitionError as error:
            assert error.where

    good = (ROOT / "hosts/workshop-swarm.toml").read_bytes()
    fuzz(st.binary(max_size=200) | damaged(good) | tables("deployment", "network", "hosts"), tries, check)


@TRIES
def test_locks(tries: int, tmp_path: Path) -> None:
    file = tmp_path / "some.lock.json"

    def check(data: bytes) -> None:
        file.write_bytes(data)
        try:
            load_lock(file)
        except LockError as error:
            assert error.where

    good = (ROOT / "images/notebook.lock.json").read_bytes()[:4000]
    fuzz(st.binary(max_size=200) | damaged(good) | JSON.map(lambda one: json.dumps(one).encode()), tries, check)


@TRIES
def test_releases_and_their_reports(tries: int, tmp_path: Path) -> None:
    def check(data: bytes) -> None:
        for name in (ABOUT, REPORT):
            (tmp_path / name).write_bytes(data)
        try:
            Release.load(tmp_path)
        except HubsmithError as error:
            assert error.where
        about = {"image": "some", "version": "1"}
        release = Release(tmp_path, about)  # type: ignore[arg-type]
        assert unproven(release.report, "0" * 64)

    fuzz(st.binary(max_size=200) | JSON.map(lambda one: json.dumps(one).encode()), tries, check)


@TRIES
def test_secrets_of_a_machine(tries: int, tmp_path: Path) -> None:
    file = tmp_path / "secrets.json"

    def check(data: bytes) -> None:
        file.write_bytes(data)
        try:
            made = secrets.load_or_make(file)
        except HubsmithError as error:
            assert error.hint
        else:
            assert made.keys() >= secrets.NAMES.keys()

    fuzz(st.binary(max_size=200) | JSON.map(lambda one: json.dumps(one).encode()), tries, check)


@TRIES
def test_user_data(tries: int) -> None:
    """Whatever a settings file holds, it arrives as it is, and adds nothing of its own."""

    def check(text: str) -> None:
        found = yaml.safe_load(user_data(text).partition("\n")[2])
        (file,) = found["write_files"]
        assert file["content"] == text
        assert file["permissions"] == "0600"

    fuzz(st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=200), tries, check)


REQUESTS = st.one_of(
    st.binary(max_size=300),
    st.tuples(
        st.sampled_from(["GET", "POST", "PUT", "HEAD", "DELETE", "X"]),
        st.sampled_from(["/", "/latest/api/token", "/openstack/latest/password", "/../x", "/%00"])
        | st.text(max_size=20),
        st.sampled_from(["Content-Length: 5", "Content-Length: -1", f"Content-Length: {'9' * 5000}", "X: y"])
        | st.text(st.characters(max_codepoint=255), max_size=40),
        st.binary(max_size=20),
    ).map(lambda one: f"{one[0]} {one[1]} HTTP/1.1\r\n{one[2]}\r\n\r\n".encode("latin-1", "replace") + one[3]),
)


@TRIES
def test_the_metadata_service(tries: int, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "secret").write_text("kept")

    def check(data: bytes) -> None:
        handler = Handler(tmp_path)
        handler.rfile = io.BytesIO(data)
        while not handler.close_connection:
            handler.handle_one_request()
        assert b"kept" not in handler.wfile.getvalue()

    fuzz(REQUESTS, tries, check)


@pytest.fixture
def manager() -> Iterator[Manager]:
    made = Manager()
    yield made
    made.server.shutdown()
    made.thread.join()
    made.server.server_close()


@TRIES
def test_the_join_service(tries: int, manager: Manager, capsys: pytest.CaptureFixture[str]) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

    def check(request: tuple[str, str, str | None, bytes]) -> None:
        method, path, length, body = request
        length = str(len(body)) if length is None else length
        line = http.client.HTTPSConnection("127.0.0.1", manager.port, timeout=20, context=context)
        line.connect()
        line.sock.sendall(
            f"{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n".encode() + body
        )
        with contextlib.suppress(OSError):  # it may close the connection at once
            while line.sock.recv(4096):
                pass
        line.close()

    bodies = (
        st.binary(max_size=100)
        | JSON.map(lambda one: json.dumps(one).encode())
        | st.fixed_dictionaries(dict.fromkeys(("what", "name", "node", "challenge", "proof"), JSON)).map(
            lambda one: json.dumps(one).encode()
        )
    )
    # None: as long as the body is. A shorter body would only make the service wait.
    lengths = st.sampled_from([None, None, "-1", "9" * 20, "9" * 5000, "x"])
    requests = st.tuples(
        st.sampled_from(["GET", "POST", "PUT"]), st.sampled_from(["/join", "/challenge", "/x"]), lengths, bodies
    )
    fuzz(requests, min(tries, 500), check)
    assert manager.came == []
    assert "Traceback" not in capsys.readouterr().err
    assert manager.join() == {"token": "SWMTKN"}
