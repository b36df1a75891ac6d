"""Checks of every machine on which a hub runs."""

from __future__ import annotations

import json
from typing import Any

import pytest

Host = Any
UNITS = ["configurable-http-proxy.service", "jupyterhub.service"]


@pytest.mark.parametrize("unit", UNITS)
def test_units_run(host: Host, unit: str) -> None:
    assert host.service(unit).is_enabled
    assert host.service(unit).is_running


@pytest.mark.parametrize("unit", [*UNITS, "jupyterhub-idle-culler.service"])
def test_units_are_confined(host: Host, unit: str) -> None:
    assert host.run(f"systemd-analyze security --no-pager --threshold=30 {unit}").rc == 0


def test_hub_answers_through_nginx(host: Host) -> None:
    page = host.check_output("curl --silent --insecure --fail https://localhost/hub/login")
    assert 'id="password_input"' in page


def test_proxy_is_reached_by_nginx_and_by_no_user(host: Host) -> None:
    folder = host.file("/run/configurable-http-proxy")
    assert (folder.group, folder.mode) == ("www-data", 0o750)
    for name in host.group("hubusers").members[:3]:
        assert host.run("runuser -u %s -- ls /run/configurable-http-proxy", name).rc != 0
    ports = host.check_output("ss --no-header --listening --numeric --tcp --processes")
    assert '"node"' not in ports


def test_apis_want_tokens(host: Host) -> None:
    status = "curl --silent --insecure --output /dev/null --write-out '%{http_code}'"
    assert host.check_output(f"{status} https://localhost/hub/api/users") == "403"
    assert host.check_output(f"{status} https://localhost/hub/metrics") == "403"
    socket = "--unix-socket /run/configurable-http-proxy/api.sock"
    assert host.check_output(f"{status} {socket} http://localhost/api/routes") == "403"


@pytest.mark.parametrize(
    "path",
    ["/run/hubsmith/jupyterhub.json", "/run/hubsmith/proxy.env", "/run/hubsmith/idle-culler.env",
     "/var/lib/jupyterhub/jupyterhub.sqlite"],
)  # fmt: skip
def test_secrets_and_state_are_roots_alone(host: Host, path: str) -> None:
    file = host.file(path)
    assert (file.user, file.mode & 0o077) == ("root", 0)
    for name in host.group("hubusers").members[:1]:
        assert host.run("runuser -u %s -- cat %s", name, path).rc != 0


def test_no_secret_in_processes_or_journal(host: Host) -> None:
    secrets = json.loads(host.file("/var/lib/hubsmith/kept/secrets.json").content_string)
    shadow = [line.split(":")[1] for line in host.file("/etc/shadow").content_string.splitlines()]
    wanted = [*secrets.values(), *(value for value in shadow if len(value) > 8)]
    seen = host.check_output("ps -e -ww -o args=") + host.check_output(
        "journalctl --namespace='*' --boot --no-pager --output=verbose"
    )
    assert not [secret[:6] for secret in wanted if secret in seen]


def test_hub_dies_last(host: Host) -> None:
    for unit in (*UNITS, "nginx.service"):
        pid = host.check_output(f"systemctl show --property=MainPID --value {unit}")
        assert int(host.file(f"/proc/{pid}/oom_score_adj").content_string) == -500
