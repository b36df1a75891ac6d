"""Fetch: what the locks name, into the cache and into the Nix store."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hubsmith.errors import FetchError
from hubsmith.fetch import nixstore
from hubsmith.fetch.artifacts import Artifact, artifacts_of
from hubsmith.fetch.cache import Cache
from hubsmith.fetch.download import Downloader, Gone, Interrupted
from hubsmith.fetch.sources import Sources
from hubsmith.lock import busybox
from hubsmith.lock.models import Lock
from hubsmith.progress import Bytes

JOBS = 8


class ArtifactsGone(FetchError):
    """The archives no longer hold some artifacts of a lock."""

    def __init__(self, gone: Sequence[Artifact], details: Sequence[str], mend: str) -> None:
        self.gone = list(gone)
        count = "an artifact is" if len(gone) == 1 else f"{len(gone)} artifacts are"
        super().__init__(f"{count} gone from the archive:" + "".join(f"\n  - {line}" for line in details), mend=mend)


@dataclass
class Report:
    """What a fetch did; sizes in bytes, times in seconds."""

    artifacts: int = 0
    size: int = 0
    downloaded: int = 0
    downloaded_size: int = 0
    added: int = 0
    seconds: float = 0.0
    refreshed: list[str] = field(default_factory=list)

    def json(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


def fetch_locks(locks: Sequence[Lock], *, jobs: int = JOBS, cache: Cache | None = None) -> Report:
    """Make every artifact of some locks valid in the Nix store, downloading what is not in the cache.

    :param jobs: parallel transfers.
    :raises ArtifactsGone: archives no longer hold some of them; all others were fetched.
    :raises FetchError: an archive cannot be reached, or sends other bytes.
    """
    began = time.monotonic()
    cache = cache or Cache()
    artifacts = artifacts_of(locks)
    report = Report(artifacts=len(artifacts), size=sum(artifact.size for artifact in artifacts))
    paths = {nixstore.fixed_path(artifact.sha256, artifact.store_name): artifact for artifact in artifacts}
    tools = next((lock for lock in locks if lock.busybox), None)
    box = nixstore.fixed_path(tools.busybox.nar_sha256, "busybox", recursive=True) if tools and tools.busybox else None
    invalid = nixstore.invalid([*paths, *([box] if box else [])])
    wanted = {path: paths[path] for path in paths if path in invalid}
    if tools and box in invalid:
        deb = busybox.package(tools.debian)
        path = nixstore.fixed_path(deb.sha256, Path(deb.path).name)
        needed = next(artifact for artifact in artifacts if artifact.sha256 == deb.sha256)
        wanted.setdefault(path, needed)
    if wanted:
        _into_cache(list(wanted.values()), cache, jobs, report)
        _into_store(wanted, cache, jobs, report)
    if tools and box and box in invalid:
        _add_busybox(tools, box, cache)
        report.added += 1
    report.seconds = round(time.monotonic() - began, 3)
    return report


def _into_cache(artifacts: Sequence[Artifact], cache: Cache, jobs: int, report: Report) -> None:
    missing = [artifact for artifact in artifacts if not cache.has(artifact.sha256, artifact.size)]
    if missing:
        download(missing, cache, jobs)
        report.downloaded += len(missing)
        report.downloaded_size += sum(artifact.size for artifact in missing)


def _into_store(wanted: dict[str, Artifact], cache: Cache, jobs: int, report: Report) -> None:
    made = nixstore.add({path: cache.path(artifact.sha256) for path, artifact in wanted.items()})
    damaged = {path: wanted[path] for path in wanted if made[path] != path}
    if damaged:
        # The bytes in the cache went bad after they were verified.
        for artifact in damaged.values():
            cache.drop(artifact.sha256)
        _into_cache(list(damaged.values()), cache, jobs, report)
        again = nixstore.add({path: cache.path(artifact.sha256) for path, artifact in damaged.items()})
        for path, artifact in damaged.items():
            if again[path] != path:
                raise FetchError(f"the store made {again[path]} of it, not {path}", where=str(artifact))
    report.added += len(wanted)


def _add_busybox(tools: Lock, path: str, cache: Cache) -> None:
    deb = busybox.package(tools.debian)
    with TemporaryDirectory(prefix=".busybox-", dir=cache.folder) as folder:
        file = Path(folder) / "busybox"
        busybox.extract(cache.path(deb.sha256), file)
        made = nixstore.add({path: file}, recursive=True)
    if made[path] != path:
        raise FetchError(f"the store made {made[path]} of busybox, not {path}", where="nix/tools.lock.json")


def download(artifacts: Sequence[Artifact], cache: Cache, jobs: int = JOBS) -> None:
    """Bring artifacts into the cache, in parallel; on Ctrl-C what came so far is kept for the next run.

    :raises ArtifactsGone: see :func:`fetch_locks`.
    :raises FetchError: see :func:`fetch_locks`.
    """
    sources = Sources(jobs)
    gone: list[Artifact] = []
    with Bytes("fetch", len(artifacts), sum(artifact.size for artifact in artifacts)) as progress:
        downloader = Downloader(cache, on_bytes=progress.advance)

        def one(artifact: Artifact) -> None:
            if downloader.stop.is_set():
                raise Interrupted
            source = sources.of(artifact.kind)
            try:
                downloader.get(
                    source.session, source.address(artifact),
                    sha256=artifact.sha256, size=artifact.size, what=str(artifact),
                )  # fmt: skip
            except Gone:
                gone.append(artifact)
            progress.finish()

        # The largest first: no long transfer is left for the end.
        queue = sorted(artifacts, key=lambda artifact: -artifact.size)
        with ThreadPoolExecutor(jobs, thread_name_prefix="fetch") as pool:
            try:
                _all([pool.submit(one, artifact) for artifact in queue])
            except BaseException:
                downloader.stop.set()
                pool.shutdown(wait=True, cancel_futures=True)
                raise
    if gone:
        raise ArtifactsGone(sorted(gone), [str(artifact) for artifact in sorted(gone)], "hubsmith lock --upgrade")


def _all(futures: Sequence[Future[None]]) -> None:
    """Wait for all; the first error ends the waiting."""
    pending = set(futures)
    while pending:
        # With a time-out, so that a Ctrl-C is seen at once.
        done, pending = wait(pending, timeout=0.5, return_when=FIRST_COMPLETED)
        for future in done:
            future.result()
