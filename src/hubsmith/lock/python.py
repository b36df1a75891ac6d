"""Solve Python requirements with pip, for the Python and C library of an image."""

from __future__ import annotations

import json
import re
import sys
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from hubsmith.archives.machine import pip_config
from hubsmith.errors import LockError
from hubsmith.lock.measure import measure_wheels
from hubsmith.lock.models import DebianPackage, PythonEnv, Wheel
from hubsmith.run import CommandFailed, run

#: Minor version of the oldest glibc with a platform tag (manylinux1 in PEP 600).
OLDEST_GLIBC_MINOR = 5
_LEGACY = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}


@dataclass(frozen=True, order=True)
class Chosen:
    """Wheel chosen by pip."""

    name: str
    version: str
    file: str
    sha256: str


@dataclass(frozen=True)
class Target:
    """Python and glibc versions of an image."""

    python: str
    glibc: str

    @property
    def minor(self) -> str:
        """Python version without the patch level, such as `3.13`."""
        return ".".join(self.python.split(".")[:2])

    @property
    def platforms(self) -> list[str]:
        """Platform tags of compatible wheels, newest first."""
        newest = int(self.glibc.split(".")[1])
        tags = []
        for minor in range(newest, OLDEST_GLIBC_MINOR - 1, -1):
            tags.append(f"manylinux_2_{minor}_x86_64")
            if minor in _LEGACY:
                tags.append(f"{_LEGACY[minor]}_x86_64")
        return [*tags, "linux_x86_64"]

    @property
    def markers(self) -> dict[str, str]:
        """Environment for PEP 508 markers."""
        return {
            "implementation_name": "cpython",
            "implementation_version": self.python,
            "os_name": "posix",
            "platform_machine": "x86_64",
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": self.python,
            "python_version": self.minor,
            "sys_platform": "linux",
        }


def target_of(packages: Sequence[DebianPackage], where: str) -> Target:
    """Find the versions of Python and glibc among an image's Debian packages.

    :raises LockError: Python or glibc is missing.
    """
    python = glibc = None
    for package in packages:
        upstream = re.match(r"(?:\d+:)?(\d+(?:\.\d+)+)", package.version)
        if upstream and re.fullmatch(r"python3\.\d+", package.name):
            python = upstream[1]
        if upstream and package.name == "libc6":
            glibc = upstream[1]
    if not python or not glibc:
        raise LockError(
            "the modules ask for Python environments, but the image has no Python",
            where=where,
            hint='add "python3" to the Debian packages of the module',
        )
    return Target(python, glibc)


def solve(env: str, requirements: Sequence[str], target: Target, where: str) -> list[Chosen]:
    """Solve one environment.

    :param env: name of the environment.
    :param requirements: pip requirements.
    :param target: versions of the image.
    :param where: definition, for error messages.
    :returns: wheels sorted by name.
    :raises LockError: pip finds no solution that consists of wheels only.
    """
    config = pip_config()
    with TemporaryDirectory(prefix="hubsmith-pip-") as folder:
        report = Path(folder) / "report.json"
        # Addresses may contain credentials, and every user of this computer can read command lines.
        settings = {"PIP_INDEX_URL": config.index_url, "PIP_EXTRA_INDEX_URL": " ".join(config.extra_index_urls)}
        argv: list[str | Path] = [
            sys.executable, Path(__file__).with_name("pip_for_target.py"), json.dumps(target.markers),
            "install", "--dry-run", "--ignore-installed", "--quiet", "--disable-pip-version-check",
            "--report", report, "--target", Path(folder) / "target", "--only-binary", ":all:",
            "--python-version", target.python, "--implementation", "cp",
            "--abi", f"cp{target.minor.replace('.', '')}",
            *(word for tag in target.platforms for word in ("--platform", tag)),
            "--", *requirements,
        ]  # fmt: skip
        try:
            # Ignore local wheels: the archives do not have them.
            run(argv, env={**settings, "PIP_FIND_LINKS": "", "PIP_NO_INDEX": "0"})
        except CommandFailed as error:
            raise LockError(
                f"pip finds no solution for the environment {env!r}:\n{error.stderr.strip()}", where=where
            ) from None
        chosen = json.loads(report.read_text())["install"]
    wheels = []
    for one in chosen:
        file = urllib.parse.unquote(urllib.parse.urlsplit(one["download_info"]["url"]).path.rsplit("/", 1)[-1])
        meta = one["metadata"]
        name = re.sub(r"[-_.]+", "-", meta["name"]).lower()
        sha256 = one["download_info"].get("archive_info", {}).get("hashes", {}).get("sha256")
        if not sha256:
            raise LockError(f"the index has no SHA-256 of {file}", where=where)
        wheels.append(Chosen(name, meta["version"], file, sha256))
    return sorted(wheels)


def complete(requirements: Sequence[str], chosen: Sequence[Chosen]) -> PythonEnv:
    """Add the size of each wheel to a solved environment.

    :raises FetchError: see :func:`hubsmith.lock.measure.measure_wheels`.
    """
    sizes = measure_wheels(chosen)
    wheels = [
        Wheel(name=one.name, version=one.version, file=one.file, size=size, installed_size=unpacked, sha256=one.sha256)
        for one, (size, unpacked) in zip(chosen, sizes, strict=True)
    ]
    return PythonEnv(requirements=list(requirements), wheels=wheels)
