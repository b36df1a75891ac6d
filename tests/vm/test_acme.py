"""Certificates from a real ACME authority: Pebble, on this machine."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store
from hub_fixtures import HUB, Hub, start
from pebble import Pebble
from people import settings

from hubsmith.vm.testbed import Testbed

pytestmark = [pytest.mark.vm, pytest.mark.modules("jupyterhub"), pytest.mark.slow]

DOMAIN = "hub.example.org"
#: Seconds for certbot to start and to go through an order, under emulation.
ISSUE = 240


def served(hub: Hub) -> list[x509.Certificate]:
    """The chain that NGINX shows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", hub.machine.port(443)), timeout=60) as raw,
        context.wrap_socket(raw, server_hostname=DOMAIN) as connection,
    ):
        leaf = connection.getpeercert(binary_form=True)
    assert leaf is not None
    return [x509.load_der_x509_certificate(leaf)]


def issuer(hub: Hub) -> str:
    """Who signed the certificate that NGINX shows."""
    return str(served(hub)[0].issuer.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value)


def serial(hub: Hub) -> int:
    """The serial number of the certificate that NGINX shows."""
    return served(hub)[0].serial_number


def status(hub: Hub) -> tuple[str, str]:
    """State and reason, as the status page has them."""
    found = json.loads(hub.machine.succeed("/usr/lib/hubsmith/status.d/certificate"))
    return found["state"], found["why"]


def wait_for(hub: Hub, what: str, issued: bool, timeout: float = ISSUE) -> None:
    """Until NGINX shows an issued certificate, or one of its own."""
    hub.machine.wait_until(
        what, lambda: issuer(hub).startswith("Pebble Intermediate CA") == issued, timeout, interval=2
    )


@pytest.fixture(scope="module")
def pebble(testbed: Testbed) -> Iterator[Pebble]:
    """An authority that is not there yet."""
    authority = Pebble(testbed, "pebble")
    yield authority
    authority.stop()


@pytest.fixture(scope="module")
def hub(testbed: Testbed, image: Path, pebble: Pebble) -> Iterator[Hub]:
    """A hub that was first booted while its authority was down; the tests below follow one another."""
    text = settings(("alice",), hub={"domain": DOMAIN}, tls=pebble.settings)
    machine = start(testbed, image, "acme", text)
    yield Hub(machine)
    machine.discard()


def test_the_hub_opens_without_the_authority_and_says_why(hub: Hub) -> None:
    hub.machine.wait_until("the first attempt", lambda: "failed" in status(hub)[1], ISSUE, interval=2)
    state, why = status(hub)
    assert state == "degraded"
    assert "self-signed certificate in use" in why
    assert "Connection refused" in why
    assert issuer(hub) == DOMAIN
    page = hub.machine.get("/hub/login")
    assert page.status == 200
    assert "strict-transport-security" not in page.headers
    assert hub.machine.succeed("systemctl is-active hubsmith-certificate.service").strip() == "active"


def test_it_is_issued_by_itself_once_the_authority_is_there(hub: Hub, pebble: Pebble) -> None:
    pebble.start(hub.machine.port(80))
    wait_for(hub, "a certificate by the first retry", issued=True)
    root = x509.load_pem_x509_certificate(pebble.root.encode())
    live = hub.machine.succeed("cat /run/hubsmith/tls/fullchain.pem").encode()
    leaf, *chain = x509.load_pem_x509_certificates(live)
    verifier = PolicyBuilder().store(Store([root])).build_server_verifier(x509.DNSName(DOMAIN))
    verifier.verify(leaf, chain)
    assert served(hub) == [leaf]
    state, why = status(hub)
    assert (state, "Pebble Intermediate CA" in why) == ("ready", True)
    assert "max-age" in hub.machine.get("/hub/login").headers["strict-transport-security"]


def test_a_certificate_is_kept_over_a_reboot_and_nobody_is_asked_again(hub: Hub, pebble: Pebble) -> None:
    before = serial(hub)
    pebble.stop()
    hub.machine.reboot(600)
    hub.machine.wait_for_https("/hub/login", timeout=HUB)
    assert serial(hub) == before
    assert status(hub)[0] == "ready"
    # It comes back with another root and without any account, as staging authorities do now and then: what follows is
    # with an account that the hub has registered anew.
    pebble.start(hub.machine.port(80))


def test_the_timer_renews_when_a_third_is_left_and_not_before(hub: Hub) -> None:
    before = serial(hub)
    hub.machine.succeed("hubsmith-certificate renew", timeout=ISSUE)
    assert serial(hub) == before
    # The clock of the guest goes on by 61 of the 90 days; what the timer starts is started.
    hub.machine.succeed("systemctl stop systemd-timesyncd; date -s '+61 days'")
    hub.machine.succeed("hubsmith-certificate renew", timeout=ISSUE)
    hub.machine.succeed("date -s '-61 days'")
    hub.machine.wait_until("NGINX to take the new one", lambda: serial(hub) != before, 60, interval=1)
    assert issuer(hub).startswith("Pebble Intermediate CA")
    assert hub.machine.get("/hub/login").status == 200
    assert "hubsmith-certificate.timer" in hub.machine.succeed("systemctl list-timers --no-legend")


def test_a_revoked_certificate_is_replaced_by_force(hub: Hub, pebble: Pebble) -> None:
    before = serial(hub)
    lineage = hub.machine.succeed("ls /etc/letsencrypt/live | grep -v README").strip()
    hub.machine.succeed(
        "REQUESTS_CA_BUNDLE=/var/lib/hubsmith/tls/ca-bundle.pem certbot revoke --non-interactive "
        f"--cert-name {lineage} --server {pebble.directory_url} --reason keycompromise --no-delete-after-revoke",
        timeout=ISSUE,
    )
    assert pebble.is_revoked(before)
    hub.machine.succeed("hubsmith-certificate renew --force", timeout=ISSUE)
    hub.machine.wait_until("NGINX to take the new one", lambda: serial(hub) != before, 60, interval=1)
    assert not pebble.is_revoked(serial(hub))


def test_a_name_that_leads_elsewhere_is_told_in_the_authoritys_words(hub: Hub, pebble: Pebble) -> None:
    pebble.resolve("elsewhere.example.org", "127.0.0.99")
    hub.apply(settings(("alice",), hub={"domain": "elsewhere.example.org"}, tls=pebble.settings))
    hub.machine.wait_until("the refusal", lambda: "failed" in status(hub)[1], ISSUE, interval=2)
    state, why = status(hub)
    assert state == "degraded"
    assert "elsewhere.example.org" in why
    assert "127.0.0.99" in why
    assert issuer(hub) == "elsewhere.example.org", "the other name's certificate is not served for this one"
    hub.apply(settings(("alice",), hub={"domain": DOMAIN}, tls=pebble.settings))
    wait_for(hub, "the kept certificate", issued=True, timeout=60)
    assert status(hub)[0] == "ready"


def test_another_authority_issues_anew_and_the_way_back_costs_nothing(
    hub: Hub, pebble: Pebble, testbed: Testbed
) -> None:
    """The switch from a staging authority to the real one, and back."""
    first = serial(hub)
    other = Pebble(testbed, "other-pebble")
    other.start(hub.machine.port(80))
    hub.apply(settings(("alice",), hub={"domain": DOMAIN}, tls=other.settings))
    hub.machine.wait_until(
        "a certificate of the other authority",
        lambda: issuer(hub).startswith("Pebble Intermediate CA") and serial(hub) != first, ISSUE, interval=2,
    )  # fmt: skip
    chain = x509.load_pem_x509_certificates(hub.machine.succeed("cat /run/hubsmith/tls/fullchain.pem").encode())
    # A verifier judges by the time at which it was made.
    other_root = x509.load_pem_x509_certificate(other.root.encode())
    verifier = PolicyBuilder().store(Store([other_root])).build_server_verifier(x509.DNSName(DOMAIN))
    verifier.verify(chain[0], chain[1:])
    other.stop()
    pebble.stop()
    hub.apply(settings(("alice",), hub={"domain": DOMAIN}, tls=pebble.settings))
    hub.machine.wait_until("the first one again", lambda: serial(hub) == first, 60, interval=1)


def test_a_hub_may_go_back_to_its_own_certificate(hub: Hub) -> None:
    hub.apply(settings(("alice",), hub={"domain": DOMAIN}))
    wait_for(hub, "the self-signed certificate", issued=False, timeout=60)
    assert status(hub)[0] == "ready"
    assert "strict-transport-security" not in hub.machine.wait_for_https("/hub/login", timeout=HUB).headers
