"""Artifacts of a lock: one per `.deb`, wheel and npm tarball."""

from __future__ import annotations

from collections.abc import Iterable

from hubsmith.archives.artifacts import Artifact
from hubsmith.lock.models import DebianPackage, Lock


def artifacts_of(locks: Iterable[Lock]) -> list[Artifact]:
    """Return the artifacts of some locks, sorted and without duplicates."""
    found: dict[tuple[str, str], Artifact] = {}

    def add(artifact: Artifact) -> None:
        found[(artifact.sha256, artifact.store_name)] = artifact

    for lock in locks:
        for deb in lock.debian:
            add(artifact_of(deb))
        for env in lock.python.values():
            for wheel in env.wheels:
                add(Artifact("pypi", wheel.name, wheel.version, wheel.file, wheel.size, wheel.sha256))
        for tree in lock.npm.values():
            for package in tree.packages:
                add(Artifact("npm", package.name, package.version, package.path, package.size, package.sha256))
    return sorted(found.values())


def artifact_of(deb: DebianPackage) -> Artifact:
    """Return the artifact of a Debian package."""
    return Artifact(deb.archive, deb.name, deb.version, deb.path, deb.size, deb.sha256)
