"""Which certificate is served, and what is said about it: with real keys and certificates, without an authority."""

from __future__ import annotations

import datetime
import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

FILE = Path(__file__).parents[2] / "modules/letsencrypt/files/usr/lib/hubsmith/certificates.py"
DAY = 86_400
SELF_SIGNED = {
    "domain": "hub.example.org", "hostname": "hub", "mode": "self-signed", "email": None, "staging": False,
    "directory_url": None, "ca_bundle": None, "certificate": None, "key": None,
}  # fmt: skip
ACME = {**SELF_SIGNED, "mode": "letsencrypt", "email": "admin@example.org"}


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The program with all its paths below a folder of the test; NGINX is not there to be reloaded."""
    spec = importlib.util.spec_from_file_location("certificates", FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "certificates", module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    scope = vars(module)
    for name in ("run/hubsmith", "var/lib", "etc/letsencrypt/live"):
        (tmp_path / name).mkdir(parents=True)
    scope.update(
        SETTINGS=tmp_path / "run/hubsmith/tls.json",
        LIVE=tmp_path / "run/hubsmith/tls",
        FACTS=tmp_path / "run/hubsmith/certificate.json",
        STATE=tmp_path / "var/lib/tls",
        LETSENCRYPT=tmp_path / "etc/letsencrypt",
        LOG=tmp_path / "var/log/letsencrypt.log",
    )
    return scope


def issue(folder: Path, name: str, *, days: float = 90, key_name: str = "privkey.pem") -> None:
    """A certificate as certbot leaves it, by an authority of no name."""
    folder.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    end = now + datetime.timedelta(days=days)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Some Authority")]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(end - datetime.timedelta(days=90))
        .not_valid_after(end)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "fullchain.pem").write_bytes(certificate.public_bytes(pem))
    (folder / key_name).write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


def want(tool: dict[str, Any], settings: dict[str, Any]) -> Any:
    """Let the settings be these, and select."""
    tool["SETTINGS"].write_text(json.dumps(settings))
    return tool["select"](boot=True)


def state(tool: dict[str, Any]) -> tuple[str, str]:
    found = tool["status"]()
    return found["state"], found["why"]


def test_the_first_boot_has_a_certificate_before_any_settings(tool: dict[str, Any]) -> None:
    assert tool["select"](boot=True).source == "self-signed"
    for name in ("fullchain.pem", "key.pem", "headers.conf"):
        assert (tool["LIVE"] / name).stat().st_mode & 0o777 == 0o600
    assert tool["LIVE"].resolve().stat().st_mode & 0o777 == 0o700


def test_the_self_signed_one_is_kept_until_its_names_change(tool: dict[str, Any]) -> None:
    first = want(tool, SELF_SIGNED)
    assert first.names == ("hub.example.org", "hub", "localhost")
    assert 820 * DAY < first.not_after - time.time() < 826 * DAY
    before = (tool["LIVE"] / "key.pem").read_text()
    want(tool, SELF_SIGNED)
    assert (tool["LIVE"] / "key.pem").read_text() == before
    assert want(tool, {**SELF_SIGNED, "domain": "other.example.org"}).names[0] == "other.example.org"
    assert (tool["LIVE"] / "key.pem").read_text() != before
    assert (tool["LIVE"] / "headers.conf").read_text() == ""


def test_half_a_pair_after_a_power_cut_is_made_anew(tool: dict[str, Any]) -> None:
    folder = Path(want(tool, SELF_SIGNED).folder)
    key = folder / "key.pem"
    key.write_bytes(key.read_bytes()[:40])
    assert want(tool, SELF_SIGNED).source == "self-signed"
    assert len(key.read_bytes()) > 200
    issue(folder, "hub", key_name="other.pem")  # a certificate that does not fit the key
    want(tool, SELF_SIGNED)
    assert tool["inspect"](folder, "self-signed", trusted=False) is not None


def test_an_issued_one_wins_and_promises_strict_transport_security(tool: dict[str, Any]) -> None:
    issue(tool["LETSENCRYPT"] / "live" / tool["lineage"](ACME), "hub.example.org")
    assert want(tool, ACME).source == "acme"
    assert "max-age=31536000" in (tool["LIVE"] / "headers.conf").read_text()
    assert state(tool)[0] == "ready"
    assert "issued by Some Authority" in state(tool)[1]


def test_staging_promises_nothing_and_is_another_certificate(tool: dict[str, Any]) -> None:
    staging = {**ACME, "staging": True}
    issue(tool["LETSENCRYPT"] / "live" / tool["lineage"](ACME), "hub.example.org")
    assert want(tool, staging).source == "self-signed"
    issue(tool["LETSENCRYPT"] / "live" / tool["lineage"](staging), "hub.example.org")
    assert want(tool, staging).source == "acme"
    assert (tool["LIVE"] / "headers.conf").read_text() == ""
    assert "staging: browsers warn" in state(tool)[1]
    assert tool["directory"](staging) != tool["directory"](ACME)


@pytest.mark.parametrize(("name", "days"), [("other.example.org", 90), ("hub.example.org", -1)])
def test_another_name_or_an_expired_one_is_not_served(tool: dict[str, Any], name: str, days: float) -> None:
    issue(tool["LETSENCRYPT"] / "live" / tool["lineage"](ACME), name, days=days)
    assert want(tool, ACME).source == "self-signed"


def test_the_next_boot_serves_the_last_choice_before_the_settings_are_there(tool: dict[str, Any]) -> None:
    issue(tool["LETSENCRYPT"] / "live" / tool["lineage"](ACME), "hub.example.org")
    want(tool, ACME)
    for file in tool["LIVE"].parent.rglob("*.json"):
        file.unlink()
    tool["LIVE"].unlink()
    assert tool["select"](boot=True).source == "acme"
    assert "max-age" in (tool["LIVE"] / "headers.conf").read_text()


def test_the_provided_one_is_served(tool: dict[str, Any], tmp_path: Path) -> None:
    issue(tmp_path / "mine", "hub.example.org", days=10)
    given = {
        "certificate": (tmp_path / "mine/fullchain.pem").read_text(),
        "key": (tmp_path / "mine/privkey.pem").read_text(),
    }
    assert want(tool, {**SELF_SIGNED, "mode": "provided", **given}).source == "provided"
    assert (tool["LIVE"] / "key.pem").read_text() == given["key"]
    kind, why = state(tool)
    assert kind == "degraded"
    assert "less than 14 days are left" in why


def test_old_ones_do_not_pile_up(tool: dict[str, Any]) -> None:
    for number in range(4):
        want(tool, {**SELF_SIGNED, "domain": f"hub{number}.example.org"})
    assert len(list(tool["LIVE"].parent.glob("tls.*"))) == 2  # tls.json and the live folder


@pytest.mark.parametrize(("days", "due"), [(31, False), (29, True), (-1, True)])
def test_renewal_is_due_in_the_last_third(tool: dict[str, Any], tmp_path: Path, days: float, due: bool) -> None:
    issue(tmp_path / "mine", "hub.example.org", days=days)
    assert tool["inspect"](tmp_path / "mine", "acme", trusted=True).renewal_due == due


def test_what_the_status_says_of_failures(tool: dict[str, Any]) -> None:
    want(tool, ACME)
    assert state(tool) == (
        "starting",
        "waiting for the first certificate for hub.example.org; self-signed meanwhile: browsers warn",
    )
    tool["select"](boot=True, failure={"at": 0, "why": "no such name"})
    kind, why = state(tool)
    assert kind == "degraded"
    assert "the last attempt (1970-01-01 00:00 UTC) failed: no such name" in why
    want(tool, ACME)
    assert "no such name" in state(tool)[1], "an apply that changes nothing must not forget the reason"
    want(tool, {**ACME, "domain": "mended.example.org"})
    assert "no such name" not in state(tool)[1], "the reason was about another name"


def test_a_failing_renewal_is_a_problem_only_when_time_runs_out(tool: dict[str, Any]) -> None:
    for days, expected in ((20, "ready"), (13, "degraded")):
        issue(tool["LETSENCRYPT"] / "live" / tool["lineage"](ACME), "hub.example.org", days=days)
        want(tool, ACME)
        tool["select"](boot=True, failure={"at": 0, "why": "rate limited"})
        assert state(tool)[0] == expected
        assert "rate limited" in state(tool)[1]


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (
            "Certbot failed to authenticate some domains (authenticator: webroot). The Certificate Authority "
            "reported these problems:\n  Domain: hub.example.org\n  Type:   dns\n  Detail: DNS problem: NXDOMAIN "
            "looking up A\n\nHint: The Certificate Authority failed\n\nSome challenges have failed.\nAsk for help",
            "DNS problem: NXDOMAIN looking up A (dns)",
        ),
        (
            "An unexpected error occurred:\nValueError: Requesting ca.example.org/dir: Connection refused\nAsk for",
            "Requesting ca.example.org/dir: Connection refused",
        ),
        (
            "An unexpected error occurred:\nError creating new order :: too many certificates already issued\nAsk for",
            "Error creating new order :: too many certificates already issued",
        ),
        ("Saving debug log to /var/log\nsomething else\n", "something else"),
        ("", "certbot said nothing"),
    ],
)
def test_the_authoritys_own_words_are_found(tool: dict[str, Any], output: str, words: str) -> None:
    assert tool["words_of"](output) == words


@pytest.mark.parametrize(
    ("written", "runs"),
    [("urn:ietf:params:acme:error:accountDoesNotExist", 2), ("urn:ietf:params:acme:error:rateLimited", 1), (None, 1)],
    ids=["account lost", "another reason", "ended before it wrote a log"],
)
def test_only_a_lost_account_is_registered_anew(tool: dict[str, Any], written: str | None, runs: int) -> None:
    accounts = tool["accounts"](ACME)
    accounts.mkdir(parents=True)
    known: list[bool] = []

    def run_certbot(settings: dict[str, Any]) -> subprocess.CompletedProcess[str]:
        known.append(accounts.exists())
        if written:
            tool["LOG"].parent.mkdir(exist_ok=True)
            tool["LOG"].write_text(written)
        return subprocess.CompletedProcess([], 1, "", "no certificate today")

    tool["run_certbot"] = run_certbot
    assert tool["certbot"](ACME) == "no certificate today"
    assert known == [True, False][:runs]
