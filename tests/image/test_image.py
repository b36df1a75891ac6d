"""The files of a built image, and the root inside: complete, true, clean and anonymous."""

from __future__ import annotations

import hashlib
import json
import re
import runpy
import stat
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
from image_parts import ROOT, Output, inode

from hubsmith.plan import dumps
from hubsmith.plan.images import manifest_of

pytestmark = pytest.mark.image
Entries = dict[str, dict[str, Any]]
FACTORY = "usr/share/factory/var"

#: What lies in there is an engine's: whose rights it has is said by tests/image/test_container.py.
CONTAINERS = "usr/share/hubsmith/containers/"
#: Programs that run with other rights than their caller's: the list by which running machines are checked.
SETUID = {path.lstrip("/") for path in runpy.run_path(str(ROOT / "modules/hardening/check.py"))["SETUID"]}
#: Folders whose files get the folder's group.
SETGID_FOLDERS = {f"{FACTORY}/mail"}
#: Sticky, all of them.
WORLD_WRITABLE = {"tmp", f"{FACTORY}/tmp"}
#: Keys that packages publish for their own tests: they open nothing.
PUBLISHED_KEYS = (
    "usr/lib/python3/dist-packages/certbot/*tests/*",
    "opt/*/lib/python3.*/site-packages/tornado/test/test.key",
    "usr/lib/x86_64-linux-gnu/libgnutls.so.30.*",
)
#: The kernel's group for what belongs to nobody; Debian gives NFS's folders to it.
NOGROUP = 65534
#: What starts by itself on every machine (links in /etc/systemd/system/*.wants), and besides. A new one is a decision.
ENABLED = {
    "basic.target": {"hubsmith-hidepid.service"},
    "cloud-config.target": {"cloud-init-hotplugd.socket"},
    "cloud-init.target": {
        "cloud-config.service", "cloud-final.service", "cloud-init-local.service", "cloud-init-main.service",
        "cloud-init-network.service",
    },
    "getty.target": {"getty@tty1.service"},
    "multi-user.target": {
        "hubsmith-apply.service", "hubsmith-status.service", "remote-fs.target", "ssh.service",
        "systemd-networkd.service",
    },
    "network-online.target": {"systemd-networkd-wait-online.service"},
    "sockets.target": {"systemd-networkd.socket"},
    "ssh.service": {"sshd-keygen.service"},
    "ssh.socket": {"sshd-keygen.service"},
    "sshd.service": {"sshd-keygen.service"},
    "sshd@.service": {"sshd-keygen.service"},
    "sysinit.target": {
        "nftables.service", "systemd-network-generator.service", "systemd-pstore.service",
        "systemd-resolved.service", "systemd-timesyncd.service",
    },
    "system.slice": {"system-xfs_scrub.slice"},
    "timers.target": {"fstrim.timer"},
}  # fmt: skip
ENABLED_BESIDES = {
    "master": {
        "hubsmith-hub.target": {
            "configurable-http-proxy.service", "jupyterhub-idle-culler.service", "jupyterhub.service",
        },
        "local-fs.target": {"home.mount"},
        "multi-user.target": {"hubsmith-tls.service", "nginx.service"},
        "timers.target": {"hubsmith-certificate.timer"},
    },
    "swarm-worker": {},
}  # fmt: skip


# --- the files of a built image


def test_checksums_are_right_and_complete(output: Output) -> None:
    lines = (output.folder / "SHA256SUMS").read_text().splitlines()
    sums = {name: checksum for checksum, name in (line.split("  ", 1) for line in lines)}
    for name, checksum in sums.items():
        with (output.folder / name).open("rb") as file:
            assert hashlib.file_digest(file, "sha256").hexdigest() == checksum, name
    # A raw disk is written on request, after the checksums.
    others = {"SHA256SUMS", ".store-path", f"{output.name}.raw", "test-report.json"}
    assert {path.name for path in output.folder.iterdir()} - others == sums.keys()


@pytest.mark.reads("src/hubsmith/**/*")
def test_the_manifest_is_the_plan_of_this_tree(output: Output) -> None:
    text = (output.folder / "manifest.json").read_text()
    plan = dumps(manifest_of(ROOT, output.name, refreshed=json.loads(text)["lock"]["refreshed"]))
    assert text == plan, f"the image was built from another tree: hubsmith build {output.name}"


def test_the_bill_of_materials_lists_what_is_in_the_root(output: Output, tree: Path) -> None:
    """Found by the package managers' own records in the root, not by the lock."""
    found = set()
    status = (tree / "usr/lib/sysimage/dpkg/status").read_text()
    for paragraph in status.split("\n\n"):
        fields = dict(re.findall(r"^(Package|Version|Status): (.*)$", paragraph, flags=re.MULTILINE))
        if fields.get("Status") == "install ok installed":
            found.add(("deb", fields["Package"], fields["Version"]))
    for metadata in tree.glob("opt/*/lib/python3.*/site-packages/*.dist-info/METADATA"):
        head = metadata.read_text(errors="replace").partition("\n\n")[0]
        fields = dict(re.findall(r"^(Name|Version): (.*)$", head, flags=re.MULTILINE))
        found.add(("pypi", re.sub(r"[-_.]+", "-", fields["Name"]).lower(), fields["Version"]))
    for package in tree.glob("opt/*/node_modules/**/package.json"):
        raw = json.loads(package.read_text())
        if "name" in raw and "version" in raw and re.search(r"node_modules/(@[^/]+/)?[^/]+$", str(package.parent)):
            found.add(("npm", raw["name"], raw["version"]))
    listed = set()
    for component in output.json("sbom.cdx.json")["components"]:
        if kind := re.match(r"pkg:(deb|pypi|npm)/", component.get("purl", "")):
            name = f"{component['group']}/{component['name']}" if component.get("group") else component["name"]
            listed.add((kind[1], name, component["version"]))
    assert len(found) > 200
    assert listed == found


# --- the root is what entries.json says


def test_entries_are_those_of_the_root(entries: Entries, tree: Path, erofs: Path) -> None:
    """Every path with type, mode and content; the owner where it is not root or the program is setuid."""
    wrong = []
    paths = {path.relative_to(tree).as_posix() for path in tree.rglob("*")}
    assert paths == entries.keys() - {""}
    for path, entry in entries.items():
        file = tree / path
        found = file.lstat()
        real: dict[str, Any] = {
            "type": {stat.S_IFDIR: "dir", stat.S_IFLNK: "link"}.get(stat.S_IFMT(found.st_mode), "file")
        }
        if real["type"] != "link":
            real["mode"] = f"{stat.S_IMODE(found.st_mode):04o}"
        if real["type"] == "file":
            with file.open("rb") as stream:
                real |= {"size": found.st_size, "sha256": hashlib.file_digest(stream, "sha256").hexdigest()}
        elif real["type"] == "link":
            real["target"] = str(file.readlink())
        if entry["type"] == "hard":  # the other name has the content
            other = tree / entry["target"].removeprefix("./")
            wrong += [path] if other.read_bytes() != file.read_bytes() else []
        elif any(entry[key] != value for key, value in real.items()):
            wrong.append(f"{path}: {entry} is {real}")
    for path, entry in entries.items():
        if entry["owner"] != "0:0" or path in SETUID or path in ("etc", "usr", "etc/passwd", "etc/sudoers"):
            told = inode(erofs, path)
            if f"{told.mode & 0o7777:04o} {told.uid}:{told.gid}" != f"{entry['mode']} {entry['owner']}":
                wrong.append(f"{path}: {entry} is {told}")
    assert not wrong[:20]


# --- rights


def test_setuid_programs_are_the_known_ones(entries: Entries) -> None:
    special = {path: entry["type"] for path, entry in entries.items()
               if entry["type"] != "link" and int(entry["mode"], 8) & 0o6000
               and (entry["type"] != "dir" or not path.startswith(CONTAINERS))}  # fmt: skip
    assert {path for path, kind in special.items() if kind != "dir"} == SETUID
    assert {path for path, kind in special.items() if kind == "dir"} == SETGID_FOLDERS


def test_nothing_else_can_be_written_by_everybody(entries: Entries) -> None:
    writable = {path: entry["mode"] for path, entry in entries.items()
                if entry["type"] != "link" and int(entry["mode"], 8) & 0o002
                and not path.startswith(CONTAINERS)}  # fmt: skip
    assert writable == dict.fromkeys(WORLD_WRITABLE, "1777")


def test_files_belong_to_the_system(entries: Entries) -> None:
    owners = {path: [int(part) for part in entry["owner"].split(":")] for path, entry in entries.items()}
    assert not {path: ids for path, ids in owners.items() if max(ids) >= 1000 and ids[1] != NOGROUP}
    # What root runs and reads can be changed by nobody else.
    assert not {path for path, ids in owners.items() if ids[0] != 0 and not path.startswith(FACTORY)}


def test_there_are_no_devices(entries: Entries) -> None:
    assert not [path for path, entry in entries.items() if entry["type"] == "special"]


# --- nothing of a machine, no secret


def test_no_account_has_a_password(tree: Path) -> None:
    lines = [line.split(":") for line in (tree / "etc/shadow").read_text().splitlines()]
    assert lines
    assert {fields[0] for fields in lines if not re.fullmatch(r"!?\*|!!?", fields[1])} == set()
    accounts = [line.split(":") for line in (tree / "etc/passwd").read_text().splitlines()]
    assert {fields[0] for fields in accounts if fields[1] != "x"} == set()
    assert {fields[0] for fields in accounts if fields[2] == "0"} == {"root"}
    people = {fields[0]: fields[6] for fields in accounts if 1000 <= int(fields[2]) < 60000}
    # Containers write as this one into homes.
    assert people == {"notebook": "/usr/sbin/nologin"}
    assert not [path for path in tree.rglob("authorized_keys*") if path.is_file() and path.stat().st_size]


def test_no_private_key(tree: Path) -> None:
    key = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----\s+[A-Za-z0-9+/=:, -]{16,}\s")
    found = set()
    for path in tree.rglob("*"):
        name = path.relative_to(tree).as_posix()
        inner = re.sub(rf"^{CONTAINERS}[^/]+/\d+/", "", name)
        if path.is_file() and not path.is_symlink() and not any(fnmatch(inner, known) for known in PUBLISHED_KEYS):
            content = path.read_bytes()
            if b"PRIVATE KEY-----" in content and key.search(content):
                found.add(name)
    assert not found


def test_no_machine_has_been_here(entries: Entries, tree: Path) -> None:
    assert entries["etc/machine-id"]["size"] == 0
    assert not [path for path in entries if re.fullmatch(r"etc/ssh/ssh_host_.*", path)]
    absent = ("var/lib/dbus/machine-id", "var/lib/systemd/random-seed", "var/lib/systemd/credential.secret")
    for path in absent:
        assert f"usr/share/factory/{path}" not in entries
    assert entries["etc/resolv.conf"]["type"] == "link"
    hostname = json.loads((tree / "usr/lib/hubsmith/manifest.json").read_text())["hostname"]
    assert (tree / "etc/hostname").read_text() == f"{hostname}\n"
    assert not [path for path in entries if path.startswith(("etc/hubsmith/", f"{FACTORY}/lib/hubsmith/"))]


def test_no_logs_and_caches(entries: Entries) -> None:
    left = re.compile(
        rf"{FACTORY}/(log|cache|backups|tmp|lib/apt)/.*|run/.+|tmp/.+|.*\.(dpkg|ucf)-(old|new|dist|tmp)|etc/(passwd|group|shadow|gshadow)-"
    )
    assert not [path for path, entry in entries.items() if left.fullmatch(path) and entry["type"] != "dir"]
    # The image's /var and /root are copied to the machine's own at first boot; in their places there is nothing.
    assert not [
        path for path in entries if re.match(r"(var|home|root|boot|proc|sys|dev)/", path) and path != "boot/efi"
    ]


# --- what starts


def enabled(image: str) -> dict[str, set[str]]:
    """What starts by itself in an image, by what wants it."""
    both = (ENABLED, ENABLED_BESIDES[image])
    return {name: set().union(*(one.get(name, set()) for one in both)) for name in both[0].keys() | both[1].keys()}


def test_enabled_units_are_the_known_ones(entries: Entries, output: Output) -> None:
    found: dict[str, set[str]] = {}
    for path, entry in entries.items():
        if match := re.fullmatch(r"etc/systemd/system/(.+)\.(?:wants|requires)/(.+)", path):
            assert entry["type"] == "link", path
            found.setdefault(match[1], set()).add(match[2])
    assert found == enabled(output.name)


def test_units_of_the_definition_are_enabled_and_masked(entries: Entries, output: Output) -> None:
    units = output.json("manifest.json")["units"]
    known = {unit for wanted in enabled(output.name).values() for unit in wanted}
    assert set(units["enable"]) <= known
    assert not set(units["disable"]) & known
    for unit in units["mask"]:
        assert entries[f"etc/systemd/system/{unit}"].get("target") == "/dev/null"


def test_links_of_units_lead_somewhere(entries: Entries) -> None:
    for path, entry in entries.items():
        if path.startswith("etc/systemd/system/") and entry["type"] == "link" and entry["target"] != "/dev/null":
            target = re.sub(r"^lib/", "usr/lib/", entry["target"].lstrip("/"))
            assert target in entries, f"{path} -> {entry['target']}"
