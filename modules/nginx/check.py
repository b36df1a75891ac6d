"""Checks of every machine with NGINX in front of a hub, whatever its settings are."""

from __future__ import annotations

import json
from typing import Any

import pytest

Host = Any
CURL = "curl --silent --insecure --max-time 30 --output /dev/null"


def headers(host: Host, url: str) -> dict[str, str]:
    """Return the headers of an answer in lower case. ``status`` is its code."""
    lines = host.check_output(f"{CURL} --dump-header - {url}").splitlines()
    found = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
    return {key: value.strip() for key, value in found.items()} | {"status": lines[0].split()[1]}


def test_runs_and_listens_on_both_address_families(host: Host) -> None:
    assert host.service("nginx").is_running
    assert host.service("nginx").is_enabled
    for port in (80, 443):
        assert host.socket(f"tcp://0.0.0.0:{port}").is_listening
        assert host.socket(f"tcp://:::{port}").is_listening


def test_workers_are_not_root(host: Host) -> None:
    users = host.check_output("ps -C nginx -o user=").split()
    assert sorted(set(users)) == ["root", "www-data"]
    assert users.count("root") == 1


def test_configuration_is_valid(host: Host) -> None:
    assert host.run("nginx -t -q").rc == 0


@pytest.mark.parametrize(
    ("version", "spoken"), [("tls1", False), ("tls1_1", False), ("tls1_2", True), ("tls1_3", True)]
)
def test_speaks_current_tls_only(host: Host, version: str, spoken: bool) -> None:
    # SECLEVEL=0: the client itself must be willing to speak the old versions, else nothing is tested.
    command = f"openssl s_client -connect localhost:443 -{version} -cipher ALL:@SECLEVEL=0 </dev/null 2>&1"
    assert (
        "Verify return code" in host.run(command).stdout and "Cipher is (NONE)" not in host.run(command).stdout
    ) == (spoken)


def test_old_ciphers_are_refused(host: Host) -> None:
    weak = "AES128-SHA:AES256-SHA:ECDHE-ECDSA-AES128-SHA:ECDHE-RSA-AES128-SHA:AES128-GCM-SHA256:@SECLEVEL=0"
    answer = host.run(f"openssl s_client -connect localhost:443 -tls1_2 -cipher {weak} </dev/null 2>&1").stdout
    assert "handshake failure" in answer


def test_speaks_http_2(host: Host) -> None:
    assert host.check_output(f"{CURL} --write-out '%{{http_version}}' https://localhost/hubsmith/status") == "2"


def test_http_leads_to_https(host: Host) -> None:
    answer = headers(host, "http://localhost/hub/login?next=x")
    assert (answer["status"], answer["location"]) == ("301", "https://localhost/hub/login?next=x")


def test_acme_challenges_are_served_over_http(host: Host) -> None:
    folder = "/var/lib/letsencrypt/webroot/.well-known/acme-challenge"
    host.check_output(f"mkdir -p {folder} && echo answer > {folder}/check && chmod -R a+rX {folder}")
    try:
        assert host.check_output("curl -s http://localhost/.well-known/acme-challenge/check") == "answer"
    finally:
        host.check_output(f"rm {folder}/check")
    assert headers(host, "http://localhost/.well-known/acme-challenge/other")["status"] == "404"


@pytest.mark.parametrize("path", ["/", "/hubsmith/status"])
def test_answers_tell_little_and_bind_the_browser(host: Host, path: str) -> None:
    answer = headers(host, f"https://localhost{path}")
    assert answer["server"] == "nginx"
    assert answer["x-content-type-options"] == "nosniff"
    assert answer["referrer-policy"] == "strict-origin-when-cross-origin"
    assert "x-jupyterhub-version" not in answer


def test_status_page_runs_no_scripts(host: Host) -> None:
    policy = headers(host, "https://localhost/hubsmith/status")["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script" not in policy


def test_strict_transport_security_is_promised_for_trusted_certificates_only(host: Host) -> None:
    trusted = json.loads(host.file("/run/hubsmith/certificate.json").content_string)["choice"]["trusted"]
    assert ("strict-transport-security" in headers(host, "https://localhost/hubsmith/status")) == trusted


def test_log_holds_no_queries(host: Host) -> None:
    host.run(f"{CURL} 'https://localhost/check-of-the-log?code=do-not-log-me'")
    host.run("journalctl --sync")
    log = host.check_output("journalctl --unit=nginx --boot --no-pager --output=cat")
    assert "/check-of-the-log" in log
    assert "do-not-log-me" not in log


def test_is_confined(host: Host) -> None:
    assert host.run("systemd-analyze security --no-pager --threshold=30 nginx.service").rc == 0
    profile = host.check_output("cat /proc/$(cat /run/nginx/nginx.pid)/attr/apparmor/current")
    assert profile == "hubsmith-nginx (enforce)"
    # As root, but with the profile: no path that it does not know.
    done = host.run("aa-exec --profile=hubsmith-nginx -- /usr/sbin/nginx -t -c /etc/shadow")
    assert '"/etc/shadow" failed (13: Permission denied)' in done.stderr
