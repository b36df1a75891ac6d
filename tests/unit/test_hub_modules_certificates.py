"""Which certificate is served, and what is said about it: with real keys and certificates, without an authority."""

from __future__ import annotations

import datetime
import json
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from hubsmith_tls import certificates

DAY = 86_400
SELF_SIGNED = {
    "domain": "hub.example.org", "hostname": "hub", "mode": "self-signed", "email": None, "staging": False,
    "directory_url": None, "ca_bundle": None, "certificate": None, "key": None,
}  # fmt: skip
ACME = {**SELF_SIGNED, "mode": "letsencrypt", "email": "admin@example.org"}


@pytest.fixture(autouse=True)
def below(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All paths of the program are below a folder of the test; NGINX is not there to be reloaded."""
    for name in ("run/hubsmith", "var/lib", "etc/letsencrypt/live"):
        (tmp_path / name).mkdir(parents=True)
    paths = {
        "SETTINGS": "run/hubsmith/tls.json", "LIVE": "run/hubsmith/tls", "FACTS": "run/hubsmith/certificate.json",
        "STATE": "var/lib/tls", "LETSENCRYPT": "etc/letsencrypt", "LOG": "var/log/letsencrypt.log",
    }  # fmt: skip
    for name, path in paths.items():
        monkeypatch.setattr(certificates, name, tmp_path / path)


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


def want(settings: dict[str, Any]) -> Any:
    """Let the settings be these, and select."""
    certificates.SETTINGS.write_text(json.dumps(settings))
    return certificates.select(boot=True)


def state() -> tuple[str, str]:
    found = certificates.status()
    return found["state"], found["why"]


def test_the_first_boot_has_a_certificate_before_any_settings() -> None:
    assert certificates.select(boot=True).source == "self-signed"
    for name in ("fullchain.pem", "key.pem", "headers.conf"):
        assert (certificates.LIVE / name).stat().st_mode & 0o777 == 0o600
    assert certificates.LIVE.resolve().stat().st_mode & 0o777 == 0o700


def test_the_self_signed_one_is_kept_until_its_names_change() -> None:
    first = want(SELF_SIGNED)
    assert first.names == ("hub.example.org", "hub", "localhost")
    assert 820 * DAY < first.not_after - time.time() < 826 * DAY
    before = (certificates.LIVE / "key.pem").read_text()
    want(SELF_SIGNED)
    assert (certificates.LIVE / "key.pem").read_text() == before
    assert want({**SELF_SIGNED, "domain": "other.example.org"}).names[0] == "other.example.org"
    assert (certificates.LIVE / "key.pem").read_text() != before
    assert (certificates.LIVE / "headers.conf").read_text() == ""


def test_half_a_pair_after_a_power_cut_is_made_anew() -> None:
    folder = Path(want(SELF_SIGNED).folder)
    key = folder / "key.pem"
    key.write_bytes(key.read_bytes()[:40])
    assert want(SELF_SIGNED).source == "self-signed"
    assert len(key.read_bytes()) > 200
    issue(folder, "hub", key_name="other.pem")  # a certificate that does not fit the key
    want(SELF_SIGNED)
    assert certificates.inspect(folder, "self-signed", trusted=False) is not None


def test_an_issued_one_wins_and_promises_strict_transport_security() -> None:
    issue(certificates.LETSENCRYPT / "live" / certificates.lineage(ACME), "hub.example.org")
    assert want(ACME).source == "acme"
    assert "max-age=31536000" in (certificates.LIVE / "headers.conf").read_text()
    assert state()[0] == "ready"
    assert "issued by Some Authority" in state()[1]


def test_staging_promises_nothing_and_is_another_certificate() -> None:
    staging = {**ACME, "staging": True}
    issue(certificates.LETSENCRYPT / "live" / certificates.lineage(ACME), "hub.example.org")
    assert want(staging).source == "self-signed"
    issue(certificates.LETSENCRYPT / "live" / certificates.lineage(staging), "hub.example.org")
    assert want(staging).source == "acme"
    assert (certificates.LIVE / "headers.conf").read_text() == ""
    assert "staging: browsers warn" in state()[1]
    assert certificates.directory(staging) != certificates.directory(ACME)


@pytest.mark.parametrize(("name", "days"), [("other.example.org", 90), ("hub.example.org", -1)])
def test_another_name_or_an_expired_one_is_not_served(name: str, days: float) -> None:
    issue(certificates.LETSENCRYPT / "live" / certificates.lineage(ACME), name, days=days)
    assert want(ACME).source == "self-signed"


def test_the_next_boot_serves_the_last_choice_before_the_settings_are_there() -> None:
    issue(certificates.LETSENCRYPT / "live" / certificates.lineage(ACME), "hub.example.org")
    want(ACME)
    for file in certificates.LIVE.parent.rglob("*.json"):
        file.unlink()
    certificates.LIVE.unlink()
    assert certificates.select(boot=True).source == "acme"
    assert "max-age" in (certificates.LIVE / "headers.conf").read_text()


def test_the_provided_one_is_served(tmp_path: Path) -> None:
    issue(tmp_path / "mine", "hub.example.org", days=10)
    given = {
        "certificate": (tmp_path / "mine/fullchain.pem").read_text(),
        "key": (tmp_path / "mine/privkey.pem").read_text(),
    }
    assert want({**SELF_SIGNED, "mode": "provided", **given}).source == "provided"
    assert (certificates.LIVE / "key.pem").read_text() == given["key"]
    kind, why = state()
    assert kind == "degraded"
    assert "less than 14 days are left" in why


def test_old_ones_do_not_pile_up() -> None:
    for number in range(4):
        want({**SELF_SIGNED, "domain": f"hub{number}.example.org"})
    assert len(list(certificates.LIVE.parent.glob("tls.*"))) == 2  # tls.json and the live folder


@pytest.mark.parametrize(("days", "due"), [(31, False), (29, True), (-1, True)])
def test_renewal_is_due_in_the_last_third(tmp_path: Path, days: float, due: bool) -> None:
    issue(tmp_path / "mine", "hub.example.org", days=days)
    assert certificates.inspect(tmp_path / "mine", "acme", trusted=True).renewal_due == due


def test_what_the_status_says_of_failures() -> None:
    want(ACME)
    assert state() == (
        "starting",
        "waiting for the first certificate for hub.example.org; self-signed meanwhile: browsers warn",
    )
    certificates.select(boot=True, failure={"at": 0, "why": "no such name"})
    kind, why = state()
    assert kind == "degraded"
    assert "the last attempt (1970-01-01 00:00 UTC) failed: no such name" in why
    want(ACME)
    assert "no such name" in state()[1], "an apply that changes nothing must not forget the reason"
    want({**ACME, "domain": "mended.example.org"})
    assert "no such name" not in state()[1], "the reason was about another name"


def test_a_failing_renewal_is_a_problem_only_when_time_runs_out() -> None:
    for days, expected in ((20, "ready"), (13, "degraded")):
        issue(certificates.LETSENCRYPT / "live" / certificates.lineage(ACME), "hub.example.org", days=days)
        want(ACME)
        certificates.select(boot=True, failure={"at": 0, "why": "rate limited"})
        assert state()[0] == expected
        assert "rate limited" in state()[1]


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
def test_the_authoritys_own_words_are_found(output: str, words: str) -> None:
    assert certificates.words_of(output) == words


@pytest.mark.parametrize(
    ("written", "runs"),
    [("urn:ietf:params:acme:error:accountDoesNotExist", 2), ("urn:ietf:params:acme:error:rateLimited", 1), (None, 1)],
    ids=["account lost", "another reason", "ended before it wrote a log"],
)
def test_only_a_lost_account_is_registered_anew(
    monkeypatch: pytest.MonkeyPatch, written: str | None, runs: int
) -> None:
    accounts = certificates.accounts(ACME)
    accounts.mkdir(parents=True)
    known: list[bool] = []

    def run_certbot(settings: dict[str, Any]) -> subprocess.CompletedProcess[str]:
        known.append(accounts.exists())
        if written:
            certificates.LOG.parent.mkdir(exist_ok=True)
            certificates.LOG.write_text(written)
        return subprocess.CompletedProcess([], 1, "", "no certificate today")

    monkeypatch.setattr(certificates, "run_certbot", run_certbot)
    assert certificates.certbot(ACME) == "no certificate today"
    assert known == [True, False][:runs]
