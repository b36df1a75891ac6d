"""Configuration of this computer's package clients: mirrors, registries, proxies and certificates.

hubsmith names no archive itself. It asks apt, pip and npm.
"""

from __future__ import annotations

import json
import os
import re
import sys
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from hubsmith.errors import LockError
from hubsmith.run import run

#: Labels of the archives in their signed Release files, and variables that override their addresses.
LABELS = {"debian": "Debian", "debian-security": "Debian-Security"}
OVERRIDES = {"debian": "HUBSMITH_DEBIAN_MIRROR", "debian-security": "HUBSMITH_DEBIAN_SECURITY_MIRROR"}


def debian_mirrors() -> dict[str, str]:
    """Return the base address of each Debian archive, from the environment or from apt's configuration.

    :raises LockError: apt has no mirror of an archive.
    """
    found = {archive: os.environ[name].rstrip("/") for archive, name in OVERRIDES.items() if os.environ.get(name)}
    if found.keys() != LABELS.keys():
        for line in run(
            ["apt-get", "indextargets", "--format", "$(CREATED_BY)|$(LABEL)|$(REPO_URI)"]
        ).stdout.splitlines():
            created_by, label, address = line.split("|", 2)
            for archive, wanted in LABELS.items():
                if created_by == "Packages" and label == wanted:
                    found.setdefault(archive, _plain_mirror(address))
    for archive in LABELS:
        if archive not in found:
            raise LockError(
                f"apt on this computer has no mirror of the archive {archive!r}",
                where="apt-get indextargets",
                hint=f"add it to /etc/apt/sources.list.d and run `apt-get update`, or set {OVERRIDES[archive]}",
            )
    return found


def _plain_mirror(address: str) -> str:
    """Return the address of a mirror, or the first HTTP mirror of a mirror list.

    Debian's cloud images use mirror lists (apt-transport-mirror(1)).

    :raises LockError: the list has no HTTP mirror.
    """
    if address.startswith("mirror+file:"):
        path = Path(re.sub(r"^mirror\+file:(//)?", "", address).rstrip("/"))
        words = [line.split()[0] for line in path.read_text().splitlines() if line.strip() and line[0] != "#"]
        address = next((word for word in words if word.startswith(("http://", "https://"))), "")
        if not address:
            raise LockError("the mirror list has no HTTP mirror", where=str(path))
    return address.rstrip("/")


def debian_keyring() -> Path:
    """Return the keyring that verifies the archives.

    It is Debian's, or ``HUBSMITH_DEBIAN_KEYRING`` for a mirror with its own signatures.

    :raises LockError: the keyring is not installed.
    """
    path = Path(os.environ.get("HUBSMITH_DEBIAN_KEYRING") or "/usr/share/keyrings/debian-archive-keyring.gpg")
    if not path.exists():
        raise LockError("the keyring of the Debian archive is not installed", where=str(path), hint="scripts/setup")
    return path


def machine_acquire() -> str:
    """Return this computer's `Acquire::` options (proxies, timeouts, retries, credentials) as apt configuration."""
    kept = []
    for line in run(["apt-config", "dump"]).stdout.splitlines():
        if not line.startswith("Acquire::") or line.startswith(("Acquire::IndexTargets", "Acquire::cdrom")):
            continue
        if re.fullmatch(r'[^" ]+ "[^"]*";', line):
            kept.append(line)
    return "\n".join(kept)


def apt_proxy(scheme: str) -> str | None:
    """Return apt's proxy for `http` or `https`: empty if configured to use none, None if not configured."""
    found = run(["apt-config", "shell", "P", f"Acquire::{scheme}::Proxy"]).stdout.strip()
    match = re.fullmatch(r"P='(.*)'", found)
    if not match or not match[1]:
        return None
    return "" if match[1] == "DIRECT" else match[1]


@dataclass(frozen=True)
class PipConfig:
    """Effective options of pip, from configuration files, `PIP_` variables and defaults."""

    index_url: str
    extra_index_urls: tuple[str, ...]
    cert: str | None
    proxy: str | None


# `pip config` does not print defaults, but pip's option parser knows them.
_PIP = """
import json
from pip._internal.commands import create_command
options, _ = create_command("download").parse_args([])
print(json.dumps([options.index_url, options.extra_index_urls, options.cert, options.proxy or None]))
"""


def pip_config() -> PipConfig:
    """Return pip's options on this computer. ``HUBSMITH_PYPI_INDEX`` overrides the index."""
    found = _pip_options()
    override = os.environ.get("HUBSMITH_PYPI_INDEX")
    return replace(found, index_url=override, extra_index_urls=()) if override else found


@cache
def _pip_options() -> PipConfig:
    index, extra, cert, proxy = json.loads(run([sys.executable, "-c", _PIP]).stdout.splitlines()[-1])
    return PipConfig(index, tuple(extra), cert, proxy)


@dataclass(frozen=True)
class NpmConfig:
    """Effective options of npm."""

    registry: str
    cafile: str | None
    proxy: str | None


def npm_config() -> NpmConfig:
    """Return npm's options on this computer. ``HUBSMITH_NPM_REGISTRY`` overrides the registry.

    :raises LockError: npm has no registry.
    """
    found = _npm_options()
    registry = os.environ.get("HUBSMITH_NPM_REGISTRY") or found.get("registry")
    if not registry:
        raise LockError("npm on this computer has no registry", where="npm config", hint="set HUBSMITH_NPM_REGISTRY")
    return NpmConfig(registry.rstrip("/") + "/", found.get("cafile"), found.get("https-proxy"))


@cache
def _npm_options() -> dict[str, str]:
    lines = run(["npm", "config", "get", "registry", "cafile", "https-proxy"]).stdout.splitlines()
    pairs = (line.split("=", 1) for line in lines if "=" in line)
    return {key.strip(): value.strip() for key, value in pairs if value.strip() not in ("", "null", "undefined")}
