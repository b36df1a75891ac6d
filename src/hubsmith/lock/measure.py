"""Facts that solvers do not report: sizes of wheels, sizes and SHA-256 of npm tarballs.

Files are downloaded to find out, and stay in the cache for a later fetch.
"""

from __future__ import annotations

import base64
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

from hubsmith import files
from hubsmith.archives import JOBS
from hubsmith.archives.artifacts import Artifact
from hubsmith.archives.cache import Cache
from hubsmith.archives.download import Downloader, Gone
from hubsmith.archives.sources import NpmSource, PypiSource
from hubsmith.errors import LockError
from hubsmith.progress import Bytes
from hubsmith.threads import results

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


class Tarball(Protocol):
    """Facts about an npm tarball after solving."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def integrity(self) -> str: ...


class Wheel(Protocol):
    """Facts about a wheel after solving."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def file(self) -> str: ...
    @property
    def sha256(self) -> str: ...


def measure_wheels(wheels: Sequence[Wheel]) -> list[tuple[int, int]]:
    """Return the size and the unpacked size of each wheel, in bytes.

    :raises FetchError: a wheel cannot be downloaded.
    """
    cache = Cache()
    source: PypiSource | None = None
    if any(not cache.has(wheel.sha256) for wheel in wheels):
        source = PypiSource(JOBS)

    def one(wheel: Wheel, downloader: Downloader) -> tuple[int, int]:
        if not cache.has(wheel.sha256):
            assert source
            artifact = Artifact("pypi", wheel.name, wheel.version, wheel.file, 0, wheel.sha256)
            _get(downloader, source, artifact, sha256=wheel.sha256)
        path = cache.path(wheel.sha256)
        with zipfile.ZipFile(path) as opened:
            return path.stat().st_size, sum(member.file_size for member in opened.infolist())

    return _in_parallel("wheels", wheels, one, cache)


def measure_tarballs(tarballs: Sequence[Tarball]) -> list[tuple[str, int, int]]:
    """Return SHA-256 (hex), size and unpacked size (bytes) of each tarball, verified against npm's SHA-512.

    :raises LockError: npm's lock has no SHA-512 of a tarball, or the registry does not have the file.
    :raises FetchError: a tarball cannot be downloaded, or has another SHA-512.
    """
    cache = Cache()
    known = cache.folder / "sha512"
    source = NpmSource(JOBS)

    def one(tarball: Tarball, downloader: Downloader) -> tuple[str, int, int]:
        sha512 = _sha512(tarball.integrity, f"{tarball.name} {tarball.version}")
        note = known / sha512
        sha256 = note.read_text() if note.exists() else ""
        if not sha256 or not cache.has(sha256):
            artifact = Artifact("npm", tarball.name, tarball.version, tarball.path, 0, "")
            sha256 = _get(downloader, source, artifact, sha512=sha512)
            files.write(note, sha256)
        path = cache.path(sha256)
        with tarfile.open(path, "r:gz") as opened:
            return sha256, path.stat().st_size, sum(member.size for member in opened)

    return _in_parallel("npm tarballs", tarballs, one, cache)


def _sha512(integrity: str, what: str) -> str:
    for word in integrity.split():
        if word.startswith("sha512-"):
            return base64.b64decode(word.removeprefix("sha512-")).hex()
    raise LockError("npm gives no SHA-512 of it", where=what)


def _get(
    downloader: Downloader, source: NpmSource | PypiSource, artifact: Artifact, sha256: str = "", sha512: str = ""
) -> str:
    try:
        return downloader.get(
            source.session, source.address(artifact), sha256=sha256, sha512=sha512, what=str(artifact)
        )
    except Gone:
        raise LockError("the archive has no such file, although its index names it", where=str(artifact)) from None


def _in_parallel(
    what: str, items: Sequence[ItemT], one: Callable[[ItemT, Downloader], ResultT], cache: Cache
) -> list[ResultT]:
    with Bytes(what, len(items), None) as progress:
        downloader = Downloader(cache, on_bytes=progress.advance)

        def counted(item: ItemT) -> ResultT:
            result = one(item, downloader)
            progress.finish()
            return result

        with ThreadPoolExecutor(JOBS) as pool:
            try:
                return results([pool.submit(counted, item) for item in items])
            except BaseException:
                downloader.cancel()
                raise
