"""Fetch the artifacts of locks into the cache and the Nix store."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hubsmith.archives import JOBS
from hubsmith.archives.artifacts import Artifact
from hubsmith.archives.cache import Cache
from hubsmith.errors import FetchError
from hubsmith.fetch import nixstore
from hubsmith.lock.artifacts import artifacts_of
from hubsmith.lock.models import Lock


@dataclass
class Report:
    """Report of a fetch. Sizes are in bytes, times in seconds.

    :ivar refreshed: names of images whose refreshed lock was used.
    """

    artifacts: int = 0
    size: int = 0
    downloaded: int = 0
    downloaded_size: int = 0
    added: int = 0
    seconds: float = 0.0
    refreshed: list[str] = field(default_factory=list)

    def json(self) -> dict[str, Any]:
        """Return the report as plain data."""
        return asdict(self)


@dataclass
class Fetcher:
    """Makes artifacts valid in the Nix store, by way of the cache.

    :ivar jobs: number of parallel transfers.
    :ivar offline: use no network.
    :ivar report: sum of all calls.
    """

    cache: Cache = field(default_factory=Cache)
    jobs: int = JOBS
    offline: bool = False
    report: Report = field(default_factory=Report)

    def fetch(self, locks: Sequence[Lock]) -> Report:
        """Fetch all artifacts of some locks.

        :returns: report of all calls so far.
        :raises ArtifactsGone: some artifacts are gone from the archives. All others are in the cache.
        :raises FetchError: an archive cannot be reached or sends other bytes, or an artifact is missing offline.
        """
        began = time.monotonic()
        artifacts = artifacts_of(locks)
        self.report.artifacts = len(artifacts)
        self.report.size = sum(artifact.size for artifact in artifacts)
        paths = {artifact_path(artifact): artifact for artifact in artifacts}
        boxes = {
            nixstore.fixed_path(lock.busybox.nar_sha256, "busybox", recursive=True): lock
            for lock in locks
            if lock.busybox
        }
        invalid = nixstore.invalid([*paths, *boxes])
        wanted = {path: artifact for path, artifact in paths.items() if path in invalid}
        if wanted:
            self.into_cache(list(wanted.values()))
            self._into_store(wanted)
        for path in boxes.keys() & invalid:
            self._add_busybox(boxes[path], path, artifacts)
        self.report.seconds = round(self.report.seconds + time.monotonic() - began, 3)
        return self.report

    def into_cache(self, artifacts: Sequence[Artifact]) -> None:
        """Download artifacts that are not in the cache.

        :raises ArtifactsGone: see :meth:`fetch`.
        :raises FetchError: see :meth:`fetch`.
        """
        missing = [artifact for artifact in artifacts if not self.cache.has(artifact.sha256, artifact.size)]
        if not missing:
            return
        if self.offline:
            names = "".join(f"\n  - {artifact}" for artifact in missing[:10])
            more = f"\n  - and {len(missing) - 10} more" if len(missing) > 10 else ""
            count = "1 artifact is" if len(missing) == 1 else f"{len(missing)} artifacts are"
            raise FetchError(f"{count} missing, and no archive may be asked:{names}{more}")
        # Imported late: the archives' clients take half a second to load, and most calls download nothing.
        from hubsmith.archives.transfer import download

        download(missing, self.cache, self.jobs)
        self.report.downloaded += len(missing)
        self.report.downloaded_size += sum(artifact.size for artifact in missing)

    def _into_store(self, wanted: Mapping[str, Artifact]) -> None:
        made = nixstore.add({path: self.cache.path(artifact.sha256) for path, artifact in wanted.items()})
        damaged = {path: artifact for path, artifact in wanted.items() if made[path] != path}
        if damaged:
            # The cached files were damaged after they had been verified.
            for artifact in damaged.values():
                self.cache.drop(artifact.sha256)
            self.into_cache(list(damaged.values()))
            again = nixstore.add({path: self.cache.path(artifact.sha256) for path, artifact in damaged.items()})
            for path, artifact in damaged.items():
                if again[path] != path:
                    raise FetchError(f"the store made {again[path]} of it, not {path}", where=str(artifact))
        self.report.added += len(wanted)

    def _add_busybox(self, tools: Lock, path: str, artifacts: Sequence[Artifact]) -> None:
        from hubsmith.lock import busybox

        deb = busybox.package(tools.debian)
        # The package may be in the store but no longer in the cache.
        self.into_cache([artifact for artifact in artifacts if artifact.sha256 == deb.sha256])
        with TemporaryDirectory(prefix=".busybox-", dir=self.cache.folder) as folder:
            target = Path(folder) / "busybox"
            busybox.extract(self.cache.path(deb.sha256), target)
            made = nixstore.add_folder(target)
        if made != path:
            raise FetchError(f"the store made {made} of busybox, not {path}", where="nix/tools.lock.json")
        self.report.added += 1


def artifact_path(artifact: Artifact) -> str:
    """Return an artifact's path in the Nix store."""
    return nixstore.fixed_path(artifact.sha256, artifact.store_name)
