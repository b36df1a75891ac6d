"""Solve npm requirements with npm."""

from __future__ import annotations

import json
import logging
import re
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hubsmith.archives.machine import npm_config
from hubsmith.errors import LockError
from hubsmith.lock.measure import measure_tarballs
from hubsmith.lock.models import DebianPackage, NpmPackage, NpmTree
from hubsmith.run import CommandFailed, run

log = logging.getLogger("hubsmith.lock")

#: Platform of the images, in npm's terms.
_TARGET = {"os": "linux", "cpu": "x64", "libc": "glibc"}


@dataclass(frozen=True)
class Chosen:
    """Package chosen by npm, before its tarball was downloaded."""

    name: str
    version: str
    location: str
    path: str
    integrity: str
    bin: Mapping[str, str]


def node_of(packages: Sequence[DebianPackage], where: str) -> str:
    """Return the version of Node.js among an image's Debian packages.

    :raises LockError: Node.js is missing.
    """
    for package in packages:
        upstream = re.match(r"(?:\d+:)?(\d+\.\d+\.\d+)", package.version)
        if package.name == "nodejs" and upstream:
            return upstream[1]
    raise LockError(
        "the modules ask for npm trees, but the image has no Node.js",
        where=where,
        hint='add "nodejs" to the Debian packages of the module',
    )


def solve(tree: str, requirements: Sequence[str], node: str, where: str) -> list[Chosen]:
    """Solve one tree.

    If other packages require a package whose `engines` exclude the image's Node.js, it is chosen with a warning.

    :param tree: name of the tree.
    :param requirements: npm package specifiers.
    :param node: version of Node.js in the image.
    :param where: definition, for error messages.
    :raises LockError: npm finds no solution, or one that cannot be installed offline.
    """
    config = npm_config()
    with TemporaryDirectory(prefix="hubsmith-npm-") as folder:
        (Path(folder) / "package.json").write_text(json.dumps({"name": "hubsmith-tree", "private": True}))
        argv = [
            "npm", "install", "--package-lock-only", "--ignore-scripts", "--no-audit", "--no-fund", "--omit=dev",
            "--lockfile-version=3", "--no-omit-lockfile-registry-resolved", "--no-update-notifier",
            "--", *requirements,
        ]  # fmt: skip
        settings = {
            "npm_config_registry": config.registry,
            "HUBSMITH_NODE_VERSION": node,
            "NODE_OPTIONS": f"--require {Path(__file__).with_name('node_for_target.cjs')}",
        }
        try:
            done = run(argv, cwd=Path(folder), env=settings)
        except CommandFailed as error:
            raise LockError(
                f"npm finds no solution for the tree {tree!r}:\n{error.stderr.strip()}", where=where
            ) from None
        _warn_of_engines(done.stderr, where)
        lock = json.loads((Path(folder) / "package-lock.json").read_text())
    return [
        _chosen(location, entry, config.registry, where)
        for location, entry in sorted(lock["packages"].items())
        if location and _wanted(entry)
    ]


def complete(requirements: Sequence[str], chosen: Sequence[Chosen]) -> NpmTree:
    """Add the size and SHA-256 of each tarball to a solved tree.

    :raises LockError: see :func:`hubsmith.lock.measure.measure_tarballs`.
    """
    measured = measure_tarballs(chosen)
    packages = [
        NpmPackage(
            name=one.name, version=one.version, location=one.location, path=one.path,
            size=size, installed_size=unpacked, sha256=sha256, bin=dict(one.bin),
        )
        for one, (sha256, size, unpacked) in zip(chosen, measured, strict=True)
    ]  # fmt: skip
    return NpmTree(requirements=list(requirements), packages=packages)


def _warn_of_engines(stderr: str, where: str) -> None:
    package = ""
    for line in stderr.splitlines():
        if found := re.search(r"EBADENGINE\s+package: '(.+)'", line):
            package = found[1]
        if found := re.search(r"EBADENGINE\s+required: \{ (.+) \}", line):
            log.warning("%s: warning: the npm package %s requires %s, which the image lacks", where, package, found[1])


def _wanted(entry: Mapping[str, Any]) -> bool:
    """Whether a package is installed from its own tarball. Bundled packages are in their parent's tarball."""
    if entry.get("inBundle") or entry.get("dev"):
        return False
    return all(_fits(entry.get(key, []), here) for key, here in _TARGET.items())


def _fits(listed: Sequence[str] | str, here: str) -> bool:
    words = [listed] if isinstance(listed, str) else list(listed)
    if f"!{here}" in words:
        return False
    allowed = [word for word in words if not word.startswith("!")]
    return not allowed or here in allowed or "any" in allowed


def _chosen(location: str, entry: Mapping[str, Any], registry: str, where: str) -> Chosen:
    name = entry.get("name") or location.rsplit("node_modules/", 1)[-1]
    resolved, integrity = entry.get("resolved", ""), entry.get("integrity", "")
    if not resolved.startswith(("http://", "https://")) or not integrity:
        raise LockError(f"the npm package {name} does not come from the registry ({resolved or 'a link'})", where=where)
    if entry.get("hasInstallScript"):
        raise LockError(
            f"the npm package {name} {entry['version']} has an install script, which an offline build cannot run",
            where=where,
        )
    return Chosen(
        name=name,
        version=entry["version"],
        location=location,
        path=registry_path(resolved, registry),
        integrity=integrity,
        bin={key: value.removeprefix("./") for key, value in sorted(entry.get("bin", {}).items())},
    )


def registry_path(resolved: str, registry: str) -> str:
    """Return the path of a tarball relative to its registry, whatever host the registry's metadata names."""
    path = urllib.parse.unquote(urllib.parse.urlsplit(resolved).path)
    prefix = urllib.parse.unquote(urllib.parse.urlsplit(registry).path)
    return path.removeprefix(prefix).lstrip("/")
