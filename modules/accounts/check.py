"""Checks of every machine with local accounts."""

from __future__ import annotations

import json
from typing import Any

Host = Any


def hub_users(host: Host) -> list[str]:
    members: list[str] = host.group("hubusers").members
    return members


def test_no_password_is_empty_and_root_has_none(host: Host) -> None:
    for line in host.file("/etc/shadow").content_string.splitlines():
        name, password = line.split(":")[:2]
        assert password, f"{name} needs no password"
        assert name != "root" or password.startswith(("*", "!")), "root has a password"


def test_only_users_of_the_hub_and_the_operator_have_a_shell(host: Host) -> None:
    users = set(hub_users(host))
    record = host.file("/var/lib/hubsmith/kept/accounts.json")
    known = set(json.loads(record.content_string)) if record.exists else set()
    operators = set(host.group("sudo").members) | set(host.group("adm").members)
    for line in host.file("/etc/passwd").content_string.splitlines():
        name, _, uid, _, _, _, shell = line.split(":")
        if shell.endswith("sh") and name != "root":
            assert name in users | known | operators, f"{name} ({uid}) can log in"


def test_uids_are_the_recorded_ones(host: Host) -> None:
    if users := hub_users(host):
        record = json.loads(host.file("/var/lib/hubsmith/kept/accounts.json").content_string)
        for name in users:
            assert host.user(name).uid == record[name] >= 2000


def test_users_have_no_other_rights(host: Host) -> None:
    for name in hub_users(host):
        assert set(host.user(name).groups) <= {name, "hubusers", "hubadmins"}
        assert (
            host.run("sudo -n -l -U %s", name)
            .stdout.strip()
            .endswith("is not allowed to run sudo on " + host.run("hostname").stdout.strip() + ".")
        )


def test_keys_are_read_only_from_where_root_writes_them(host: Host) -> None:
    folder = host.file("/run/hubsmith/authorized_keys")
    if folder.exists:
        assert (folder.user, folder.mode) == ("root", 0o755)
    for name in hub_users(host):
        effective = host.run("sshd -T -C user=%s,host=client,addr=192.0.2.1", name).stdout
        assert "authorizedkeysfile /run/hubsmith/authorized_keys/%u" in effective


def test_the_hub_lets_in_nobody_else(host: Host) -> None:
    service = host.file("/etc/pam.d/hubsmith").content_string.splitlines()
    first = [next(line.split() for line in service if line.startswith(kind)) for kind in ("auth", "account")]
    for words in first:
        assert words[1:] == ["requisite", "pam_succeed_if.so", "quiet", "user", "ingroup", "hubusers"]


def test_users_do_not_write_to_the_journal_and_services_do(host: Host) -> None:
    user = next(iter(hub_users(host)), None)
    for name in filter(None, ("nobody", user)):
        host.check_output("systemd-run --quiet --wait --collect --property=User=%s echo seen-%s", name, name)
    host.check_output("journalctl --sync")
    assert host.check_output("journalctl --boot --no-pager --output=cat --identifier=echo") == "seen-nobody"
