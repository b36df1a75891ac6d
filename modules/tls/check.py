"""Checks of every machine with a certificate, whatever its source."""

from __future__ import annotations

import json
from typing import Any

import pytest

Host = Any


def test_live_certificate_and_key_are_roots_alone(host: Host) -> None:
    live = host.file("/run/hubsmith/tls")
    assert live.is_symlink
    assert host.file(live.linked_to).mode == 0o700
    for name in ("fullchain.pem", "key.pem", "headers.conf"):
        file = host.file(f"/run/hubsmith/tls/{name}")
        assert (file.user, file.group, file.mode) == ("root", "root", 0o600)
    assert host.file("/var/lib/hubsmith/tls").mode == 0o700


def test_certificate_and_key_fit_together(host: Host) -> None:
    of_certificate = host.check_output("openssl x509 -in /run/hubsmith/tls/fullchain.pem -noout -pubkey")
    assert of_certificate == host.check_output("openssl pkey -in /run/hubsmith/tls/key.pem -pubout")


def test_nginx_serves_the_live_certificate(host: Host) -> None:
    fingerprint = "openssl x509 -noout -fingerprint -sha256"
    served = host.check_output(f"openssl s_client -connect localhost:443 </dev/null 2>/dev/null | {fingerprint}")
    assert served == host.check_output(f"{fingerprint} -in /run/hubsmith/tls/fullchain.pem")


def test_is_valid_for_a_while(host: Host) -> None:
    assert host.run("openssl x509 -in /run/hubsmith/tls/fullchain.pem -noout -checkend 86400").rc == 0


def test_status_tells_which_one_it_is(host: Host) -> None:
    status = json.loads(host.check_output("/usr/lib/hubsmith/status.d/certificate"))
    assert status["state"] in ("ready", "starting", "degraded")
    assert status["why"]


def test_only_the_own_timer_renews(host: Host) -> None:
    assert host.service("hubsmith-certificate.timer").is_enabled
    assert host.service("hubsmith-certificate.timer").is_running
    assert not host.service("certbot.timer").is_enabled
    assert not host.service("certbot.timer").is_running


@pytest.mark.parametrize("unit", ["hubsmith-tls.service", "hubsmith-certificate.service"])
def test_units_are_confined(host: Host, unit: str) -> None:
    assert host.run(f"systemd-analyze security --no-pager --threshold=30 {unit}").rc == 0
