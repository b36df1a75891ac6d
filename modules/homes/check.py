"""Checks of every machine with homes."""

from __future__ import annotations

import json
from typing import Any

import pytest

Host = Any


@pytest.fixture
def users(host: Host) -> list[str]:
    members: list[str] = host.group("hubusers").members
    return members


def test_quotas_are_enforced(host: Host) -> None:
    mount = host.mount_point("/home")
    assert mount.filesystem == "xfs"
    assert {"usrquota", "prjquota", "nosuid", "nodev"} <= set(mount.options)
    for kind in ("u", "p"):
        assert "Enforcement: ON" in host.run(f"xfs_quota -x -c 'state -{kind}' /home").stdout


@pytest.fixture
def common_owner(host: Host) -> tuple[int, int] | None:
    """Return the uid and gid of all homes, if all servers run as the same user."""
    found = json.loads(host.file("/run/hubsmith/facts.json").content_string)["home_owner"]
    return tuple(found) if found else None


def test_each_home_is_its_users_own(host: Host, users: list[str], common_owner: tuple[int, int] | None) -> None:
    for name in users:
        home = host.file(f"/home/{name}")
        owner = common_owner or (host.user(name).uid, host.user(name).gid)
        assert (home.uid, home.gid, home.mode) == (*owner, 0o700)


def test_each_home_has_a_limit_and_each_user_sees_only_the_own_usage(
    host: Host, users: list[str], common_owner: tuple[int, int] | None
) -> None:
    kind = "p" if common_owner else "u"
    report = host.run(f"xfs_quota -x -c 'report -{kind} -b -N -n' /home").stdout.splitlines()
    limits = {int(row[0][1:]): int(row[3]) * 1024 for row in (line.split() for line in report) if row}
    for name in users:
        uid = host.user(name).uid
        assert limits[uid] > 0
        usage = host.file(f"/run/hubsmith/usage/{name}.json")
        assert (usage.user, usage.mode) == (name, 0o400)
        assert json.loads(usage.content_string)["limit"] == limits[uid]
        for other in set(users) - {name}:
            for path in (f"/home/{other}/.bashrc", f"/run/hubsmith/usage/{other}.json"):
                assert host.run("runuser -u %s -- cat %s", name, path).rc != 0


def test_users_read_the_shared_folder_and_admins_write_it(
    host: Host, users: list[str], common_owner: tuple[int, int] | None
) -> None:
    shared = host.file("/home/shared")
    if not shared.exists or shared.mode == 0o700:
        return  # switched off
    if common_owner:  # the mount of each server decides who may write
        assert (shared.uid, shared.gid, shared.mode) == (*common_owner, 0o755)
        return
    assert (shared.user, shared.group, shared.mode) == ("root", "hubadmins", 0o2775)
    admins = host.group("hubadmins").members
    for name in users:
        assert host.run("runuser -u %s -- ls %s", name, f"/home/{name}/shared/").rc == 0
        writable = host.run("runuser -u %s -- test -w /home/shared", name).rc == 0
        assert writable == (name in admins)
