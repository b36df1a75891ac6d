"""Checks of every machine: allow-lists and hardening."""

from __future__ import annotations

import json
import re
import tomllib
from typing import Any

import pytest

Host = Any

#: Setuid, setgid and similar programs of all images. Adding one is a deliberate decision.
SETUID = {"/usr/bin/sudo"}
#: All of them sticky.
WORLD_WRITABLE = {
    "/dev/mqueue",
    "/dev/shm",
    "/run/cloud-init/tmp",
    "/run/lock",
    "/tmp",
    "/usr/share/factory/var/tmp",  # the pattern of /var, on the read-only root
    "/var/tmp",
}
DEVICES_OF_ALL = re.compile(r"/dev/(null|zero|full|random|urandom|tty|ptmx)")
#: Units that Debian's packages enable and that are wanted. The modules' own units are read from their module.toml.
ENABLED = {
    "cloud-config.service",
    "cloud-final.service",
    "cloud-init-hotplugd.socket",
    "cloud-init-local.service",
    "cloud-init-main.service",
    "cloud-init-network.service",
    "fstrim.timer",
    "getty@.service",
    "qemu-guest-agent.service",
    "remote-fs.target",
    "ssh.service",
    "sshd-keygen.service",
    "system-xfs_scrub.slice",
    "systemd-network-generator.service",
    "systemd-networkd.socket",
    "systemd-pstore.service",
}
#: DHCP clients: the kernel shows them as listening.
CLIENT_PORTS = {("udp", 68), ("udp", 546)}
RESOLVER = {("udp", 53), ("tcp", 53)}
SYSCTL = {
    "fs.protected_fifos": 2,
    "fs.protected_hardlinks": 1,
    "fs.protected_regular": 2,
    "fs.protected_symlinks": 1,
    "fs.suid_dumpable": 0,
    "kernel.dmesg_restrict": 1,
    "kernel.io_uring_disabled": 2,
    "kernel.kexec_load_disabled": 1,
    "kernel.kptr_restrict": 2,
    "kernel.unprivileged_bpf_disabled": 1,
    "kernel.unprivileged_userns_clone": 0,
    "kernel.yama.ptrace_scope": 1,
    "net.ipv4.conf.all.accept_redirects": 0,
    "net.ipv6.conf.all.accept_redirects": 0,
}
#: For find: folders that only root can enter, such as the layers of containers, which have programs of their own.
CLOSED = r"\( -type d ! -perm /0005 -user root \) -prune -o"
METADATA = ("169.254.169.254", "fd00:ec2::254")


@pytest.fixture(scope="module")
def modules(host: Host) -> dict[str, dict[str, Any]]:
    """Return the content of every module.toml of the image."""
    names = host.run("ls /usr/lib/hubsmith/modules").stdout.split()
    texts = {name: host.file(f"/usr/lib/hubsmith/modules/{name}/module.toml").content_string for name in names}
    return {name: tomllib.loads(text) for name, text in texts.items()}


def is_loopback(address: str) -> bool:
    return address.startswith(("127.", "[::1]", "[::ffff:127."))


def test_only_declared_ports_are_listened_on(host: Host, modules: dict[str, dict[str, Any]]) -> None:
    ports = [port for module in modules.values() for port in module.get("ports", ())]
    every = {(p.get("protocol", "tcp"), p["number"]) for p in ports}
    outside = {(p.get("protocol", "tcp"), p["number"]) for p in ports if p.get("audience", "loopback") != "loopback"}
    for line in host.run("ss --no-header --listening --numeric --tcp --udp --extended").stdout.splitlines():
        fields = line.split()
        protocol, (address, _, number) = fields[0], fields[4].rpartition(":")
        uid = re.search(r"\buid:(\d+)", line)
        key = (protocol, int(number))
        if is_loopback(address):
            of_a_user = uid is not None and 2000 <= int(uid[1]) < 60000  # a notebook server or its kernels
            assert key in every | RESOLVER or of_a_user, line
        else:
            assert key in outside | CLIENT_PORTS, line


def test_the_firewall_denies_by_default_and_opens_what_is_declared(
    host: Host, modules: dict[str, dict[str, Any]]
) -> None:
    rules = json.loads(host.run("nft --json list table inet hubsmith").stdout)["nftables"]
    policies = {entry["chain"]["name"]: entry["chain"].get("policy") for entry in rules if "chain" in entry}
    assert (policies["input"], policies["forward"]) == ("drop", "drop")
    opened = set()
    for entry in (rule["rule"] for rule in rules if "rule" in rule and rule["rule"]["chain"] == "ports"):
        match = entry["expr"][0]["match"]
        opened.add((match["left"]["payload"]["protocol"], match["right"]))
    ports = [port for module in modules.values() for port in module.get("ports", ())]
    declared = {(p.get("protocol", "tcp"), p["number"]) for p in ports if p.get("audience") == "all"}
    assert opened == declared | {("tcp", 22)}


def test_only_root_reaches_the_metadata_service(host: Host) -> None:
    script = (
        "import socket, sys\n"
        "try:\n"
        "    socket.create_connection((sys.argv[1], 80), 3)\n"
        "except OSError as error:\n"
        "    print(type(error).__name__)\n"
    )
    for address in METADATA if host.run("ip -6 route show default").stdout else METADATA[:1]:
        done = host.run("runuser -u nobody -- python3 -I -c %s %s", script, address)
        assert done.stdout.strip() == "ConnectionRefusedError", f"{address}: {done.stdout or 'reached'}"


def test_setuid_files(host: Host) -> None:
    found = host.run("find / -xdev -type f -perm /6000").stdout.split()
    found += host.run(f"find /var /home /etc -xdev {CLOSED} -type f -perm /6000 -print").stdout.split()
    assert set(found) <= SETUID


def test_world_writable_paths(host: Host) -> None:
    places = "/ /var /home /etc /run /tmp /dev/shm /dev/mqueue"
    # The roots of containers have a /tmp of their own; they are on the sealed root.
    roots = "/usr/share/hubsmith/containers"
    pruned = rf"\( -path '/home/*/*' -o -path /proc -o -path /sys -o -path {roots} \) -prune -o"
    command = f"find {places} -xdev {CLOSED} {pruned} -perm -0002 ! -type l ! -type s -printf '%m %p\\n'"
    found = host.run(command).stdout.splitlines()
    pairs = [line.split(" ", 1) for line in found]
    pairs = [(mode, path) for mode, path in pairs if not path.startswith(("/tmp/", "/var/tmp/"))]
    strange = {path for _, path in pairs} - WORLD_WRITABLE
    assert not {path for path in strange if not DEVICES_OF_ALL.fullmatch(path)}
    assert not {path for mode, path in pairs if mode != "1777" and not path.startswith("/dev/")}


def test_enabled_units(host: Host, modules: dict[str, dict[str, Any]]) -> None:
    declared = {unit for module in modules.values() for unit in module.get("units", {}).get("enable", ())}
    templates = {re.sub(r"@[^.]+\.", "@.", unit) for unit in declared}
    found = host.run("systemctl list-unit-files --state=enabled --no-legend --plain").stdout.splitlines()
    extra = {line.split()[0] for line in found} - declared - templates - ENABLED
    assert not extra


def test_no_unit_failed(host: Host) -> None:
    assert host.run("systemctl list-units --failed --no-legend --plain").stdout == ""


def test_users_do_not_see_the_processes_of_others(host: Host) -> None:
    assert {"hidepid=invisible", "gid=4"} <= set(host.mount_point("/proc").options)
    seen = host.run("runuser -u nobody -- ps -e -o user=").stdout.split()
    assert set(seen) == {"nobody"}


@pytest.mark.parametrize(("name", "value"), SYSCTL.items())
def test_sysctl(host: Host, name: str, value: int) -> None:
    assert host.sysctl(name) == value


def test_nothing_dumps_core(host: Host) -> None:
    assert host.sysctl("kernel.core_pattern") == "|/bin/false"
    assert "\nDefaultLimitCORE=0\n" in host.run("systemctl show").stdout


def test_what_can_be_written_gives_no_rights(host: Host) -> None:
    for path in ("/home", "/tmp", "/dev/shm", "/run"):
        mount = host.mount_point(path)
        if mount.exists:
            assert {"nosuid", "nodev"} <= set(mount.options), path


def test_ssh_takes_keys_only(host: Host) -> None:
    effective = host.run("sshd -T -C user=somebody,host=client,addr=192.0.2.1").stdout.splitlines()
    for line in (
        "passwordauthentication no",
        "kbdinteractiveauthentication no",
        "permitrootlogin without-password",
        "permitemptypasswords no",
        "x11forwarding no",
        "authenticationmethods publickey",
    ):
        assert line in effective
