"""What this machine's own package clients are configured with: mirrors, registries, proxies, certificates.

No archive is named here: apt, pip and npm are asked.
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

#: The archives' labels in their signed Release files, and the variables that override where they are.
LABELS = {"debian": "Debian", "debian-security": "Debian-Security"}
OVERRIDES = {"debian": "HUBSMITH_DEBIAN_MIRROR", "debian-security": "HUBSMITH_DEBIAN_SECURITY_MIRROR"}


def debian_mirrors() -> dict[str, str]:
    """The base address of each archive, from the environment or the machine's own apt configuration.

    :raises LockError: apt knows no mirror of an archive.
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
                f"apt on this machine knows no mirror of the archive {archive!r}",
                where="apt-get indextargets",
                mend=f"add it to /etc/apt/sources.list.d and run `apt-get update`, or set {OVERRIDES[archive]}",
            )
    return found


def _plain_mirror(address: str) -> str:
    """The address of a mirror; of a list of mirrors (apt-transport-mirror(1), as Debian's cloud images have it) the
    first one.

    :raises LockError: the list names none that is reached over HTTP.
    """
    if address.startswith("mirror+file:"):
        path = Path(re.sub(r"^mirror\+file:(//)?", "", address).rstrip("/"))
        words = [line.split()[0] for line in path.read_text().splitlines() if line.strip() and line[0] != "#"]
        address = next((word for word in words if word.startswith(("http://", "https://"))), "")
        if not address:
            raise LockError("the list of mirrors names none that is reached over HTTP", where=str(path))
    return address.rstrip("/")


def debian_keyring() -> Path:
    """The keys that the archives must be signed with: Debian's own, or those in ``HUBSMITH_DEBIAN_KEYRING`` (for a
    mirror that signs anew).

    :raises LockError: they are not installed.
    """
    path = Path(os.environ.get("HUBSMITH_DEBIAN_KEYRING") or "/usr/share/keyrings/debian-archive-keyring.gpg")
    if not path.exists():
        raise LockError("the keys of the Debian archive are not installed", where=str(path), mend="scripts/setup")
    return path


def machine_acquire() -> str:
    """The machine's own `Acquire::` options (proxies, time-outs, retries, credentials) as apt configuration."""
    kept = []
    for line in run(["apt-config", "dump"]).stdout.splitlines():
        if not line.startswith("Acquire::") or line.startswith(("Acquire::IndexTargets", "Acquire::cdrom")):
            continue
        if re.fullmatch(r'[^" ]+ "[^"]*";', line):
            kept.append(line)
    return "\n".join(kept)


def apt_proxy(scheme: str) -> str | None:
    """The proxy that apt uses for `http` or `https`; empty when it is told to use none, nothing when it is not told."""
    found = run(["apt-config", "shell", "P", f"Acquire::{scheme}::Proxy"]).stdout.strip()
    match = re.fullmatch(r"P='(.*)'", found)
    if not match or not match[1]:
        return None
    return "" if match[1] == "DIRECT" else match[1]


@dataclass(frozen=True)
class PipConfig:
    """pip's effective options: the configuration files, the `PIP_` variables, and pip's own defaults."""

    index_url: str
    extra_index_urls: tuple[str, ...]
    cert: str | None
    proxy: str | None


# pip prints its configuration but not its defaults: its own parser knows both.
_PIP = """
import json
from pip._internal.commands import create_command
options, _ = create_command("download").parse_args([])
print(json.dumps([options.index_url, options.extra_index_urls, options.cert, options.proxy or None]))
"""


def pip_config() -> PipConfig:
    """pip's options on this machine; ``HUBSMITH_PYPI_INDEX`` overrides the index."""
    told = _pip_told()
    override = os.environ.get("HUBSMITH_PYPI_INDEX")
    return replace(told, index_url=override, extra_index_urls=()) if override else told


@cache
def _pip_told() -> PipConfig:
    index, extra, cert, proxy = json.loads(run([sys.executable, "-c", _PIP]).stdout.splitlines()[-1])
    return PipConfig(index, tuple(extra), cert, proxy)


@dataclass(frozen=True)
class NpmConfig:
    """npm's effective options."""

    registry: str
    cafile: str | None
    proxy: str | None


def npm_config() -> NpmConfig:
    """npm's options on this machine; ``HUBSMITH_NPM_REGISTRY`` overrides the registry.

    :raises LockError: there is no registry.
    """
    told = _npm_told()
    registry = os.environ.get("HUBSMITH_NPM_REGISTRY") or told.get("registry")
    if not registry:
        raise LockError("npm on this machine has no registry", where="npm config", mend="set HUBSMITH_NPM_REGISTRY")
    return NpmConfig(registry.rstrip("/") + "/", told.get("cafile"), told.get("https-proxy"))


@cache
def _npm_told() -> dict[str, str]:
    lines = run(["npm", "config", "get", "registry", "cafile", "https-proxy"]).stdout.splitlines()
    pairs = (line.split("=", 1) for line in lines if "=" in line)
    return {key.strip(): value.strip() for key, value in pairs if value.strip() not in ("", "null", "undefined")}
