"""Checks of every machine that exports homes."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

Host = Any


@pytest.fixture
def network(host: Host) -> str:
    """Return the network of the NFS clients."""
    if not host.service("nfs-server").is_running:
        pytest.skip("no cluster: the server is off")
    return str(tomllib.loads(host.file("/etc/hubsmith/settings.toml").content_string)["cluster"]["network"])


def test_homes_go_to_the_machines_of_the_cluster_only(host: Host, network: str) -> None:
    (exported,) = host.check_output("exportfs -s").splitlines()
    path, rest = exported.split(None, 1)
    client, options = rest.rstrip(")").split("(")
    assert (path, client.strip()) == ("/home", network)
    assert {"sync", "root_squash", "rw"} <= set(options.split(","))


def test_version_4_2_and_none_of_the_older_ones_helpers(host: Host, network: str) -> None:
    versions = host.file("/proc/fs/nfsd/versions").content_string.split()
    assert {one for one in versions if one.startswith("+")} <= {"+4", "+4.2"}
    assert "+4.2" in versions
    assert host.run("pgrep --exact 'rpcbind|rpc.statd'").rc == 1
    listening = host.check_output("ss --no-header --listening --tcp --udp --processes")
    assert "rpc." not in listening


def test_deleted_files_do_not_keep_a_home_full(host: Host, network: str) -> None:
    assert host.check_output("systemctl show --property ActiveState --value hubsmith-deleted-files.timer") == "active"
