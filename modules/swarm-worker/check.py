"""Checks of every worker of a Swarm."""

from __future__ import annotations

import json
import tomllib
from typing import Any

Host = Any


def test_it_is_a_worker_of_the_swarm(host: Host) -> None:
    swarm = json.loads(host.check_output("docker info --format '{{json .Swarm}}'"))
    assert (swarm["LocalNodeState"], swarm["ControlAvailable"]) == ("active", False)


def test_it_has_the_homes_and_cannot_read_them(host: Host) -> None:
    mount = host.mount_point("/var/lib/homes")
    assert mount.filesystem == "nfs4"
    assert {"vers=4.2", "hard", "nosuid", "nodev"} <= set(mount.options)
    # NFS maps root to nobody, so only a container with the owner's uid can enter.
    for home in host.check_output("ls /var/lib/homes").split():
        if home != "shared":
            assert host.run("ls %s", f"/var/lib/homes/{home}").rc != 0


def test_it_has_the_container_images_that_it_brought(host: Host) -> None:
    brought = json.loads(host.file("/usr/lib/hubsmith/manifest.json").content_string)["containers"]
    there = host.check_output("docker image ls --format '{{.Repository}}:{{.Tag}}'").splitlines()
    assert {f"localhost:1/{name}:bundled" for name in brought} <= set(there)
    for name in brought:
        config = host.check_output("sha256sum /usr/share/hubsmith/containers/%s/config.json", name).split()[0]
        image = json.loads(host.check_output("docker image inspect localhost:1/%s:bundled", name))[0]
        assert image["Id"] == f"sha256:{config}"


def test_overlay_networks_lead_to_the_master_only(host: Host) -> None:
    manager = tomllib.loads(host.file("/etc/hubsmith/settings.toml").content_string)["cluster"]["manager"]
    rules = host.check_output("nft list chain inet hubsmith input")
    rule = f"ip saddr != {manager} udp dport 4789 drop"
    assert rule in rules
    assert rules.index(rule) < rules.index("established")


def test_secrets_are_roots_alone(host: Host) -> None:
    file = host.file("/run/hubsmith/worker.json")
    assert (file.user, file.mode) == ("root", 0o600)
    secret = tomllib.loads(host.file("/etc/hubsmith/settings.toml").content_string)["cluster"]["secret"]
    seen = host.check_output("ps -e -ww -o args=") + host.check_output("journalctl --boot --no-pager --output=verbose")
    assert secret not in seen
    assert "SWMTKN-" not in seen
