"""Checks of every machine that runs notebook servers as processes."""

from __future__ import annotations

import json
from typing import Any

import pytest

Host = Any
MIB = 1024**2
#: Transient unit for one command. Exit code 1 counts as success, so that a denied command leaves no failed unit.
TRANSIENT = "systemd-run --quiet --collect --pipe --wait -p SuccessExitStatus=1"


def test_hub_is_on_the_loopback_only(host: Host) -> None:
    if json.loads(host.file("/run/hubsmith/spawner-local.json").content_string)["kind"] != "local":
        pytest.skip("servers are elsewhere, and the hub with them")
    listening = host.check_output("ss --no-header --listening --numeric --tcp 'sport = :881'").splitlines()
    assert [line.split()[3] for line in listening] == ["127.0.0.1:881"]


def test_servers_leave_memory_for_the_machine(host: Host) -> None:
    total = int(host.file("/proc/meminfo").content_string.split()[1]) * 1024
    limit = host.check_output("systemctl show --property=MemoryMax --value hubsmith-users.slice")
    assert limit != "infinity"
    assert 192 * MIB <= int(limit) <= total - 600 * MIB


def test_kernel_keeps_users_off_the_ports_of_others(host: Host) -> None:
    """Check that SocketBindDeny= works. systemd ignores it without the BPF library or support by the kernel."""
    bind = "import socket; s = socket.socket(); s.bind(('127.0.0.1', {port})); print('bound')"
    run = f"{TRANSIENT} -p SocketBindAllow=tcp:29999 -p SocketBindDeny=tcp:20000-29999"
    assert host.run(f'{run} /usr/bin/python3 -c "{bind.format(port=29999)}"').stdout == "bound\n"
    denied = host.run(f'{run} /usr/bin/python3 -c "{bind.format(port=29998)}"')
    assert denied.stdout == ""
    assert "PermissionError" in denied.stderr


def test_ssh_sessions_are_kept_off_those_ports_too(host: Host) -> None:
    bind = "import socket; s = socket.socket(); s.bind(('127.0.0.1', 29998)); print('bound')"
    run = f"{TRANSIENT} --slice=user-59998.slice"
    assert "PermissionError" in host.run(f'{run} /usr/bin/python3 -c "{bind}"').stderr


def test_kernel_keeps_users_off_the_metadata_service(host: Host) -> None:
    run = f"{TRANSIENT} -p IPAddressDeny=127.0.0.9"
    connect = "import socket; socket.create_connection(('127.0.0.9', 22), 3)"
    denied = host.run(f'{run} /usr/bin/python3 -c "{connect}"')
    assert "TimeoutError" in denied.stderr or "PermissionError" in denied.stderr
