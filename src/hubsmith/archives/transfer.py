"""Download artifacts into the cache in parallel. Importing this module takes half a second."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from hubsmith.archives.artifacts import Artifact, ArtifactsGone
from hubsmith.archives.cache import Cache
from hubsmith.archives.download import Downloader, Gone, Interrupted
from hubsmith.archives.sources import Sources
from hubsmith.progress import Bytes
from hubsmith.threads import results


def download(artifacts: Sequence[Artifact], cache: Cache, jobs: int) -> None:
    """Download artifacts into the cache. After Ctrl-C, partial files are kept for the next run.

    :param artifacts: files to download.
    :param cache: target.
    :param jobs: number of parallel transfers.
    :raises ArtifactsGone: some artifacts are gone from the archives. All others were downloaded.
    :raises FetchError: an archive cannot be reached, or sends bytes that do not match the lock.
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
            else:
                progress.finish()

        # Largest first, so that no long transfer is left for the end.
        queue = sorted(artifacts, key=lambda artifact: -artifact.size)
        with ThreadPoolExecutor(jobs, thread_name_prefix="fetch") as pool:
            try:
                results([pool.submit(one, artifact) for artifact in queue])
            except BaseException:
                downloader.cancel()
                raise
    if gone:
        raise ArtifactsGone(sorted(gone))
