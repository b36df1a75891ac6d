"""The content-addressed cache of artifacts: `<cache>/artifacts/sha256/<hex>`."""

from __future__ import annotations

import fcntl
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hubsmith.paths import cache_dir


class Cache:
    """Complete files under their checksum; unfinished ones apart, each guarded by a lock on itself.

    :param folder: of the cache; hubsmith's own without it.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = (folder or cache_dir()) / "artifacts"
        self.complete = self.folder / "sha256"
        self.partial = self.folder / "partial"
        self.complete.mkdir(parents=True, exist_ok=True)
        self.partial.mkdir(exist_ok=True)

    def path(self, sha256: str) -> Path:
        """Where a complete file is, or will be."""
        return self.complete / sha256

    def has(self, sha256: str, size: int | None = None) -> bool:
        """Whether the file is there, whole. (Its bytes were verified when it came.)"""
        try:
            found = self.path(sha256).stat().st_size
        except FileNotFoundError:
            return False
        return size is None or found == size

    @contextmanager
    def part(self, checksum: str) -> Iterator[io.BufferedRandom | None]:
        """The unfinished file, locked against other fetchers, opened for reading and appending.

        :returns: nothing when another fetcher completed it while this one waited.
        """
        while True:
            with (self.partial / f"{checksum}.part").open("a+b") as stream:
                fcntl.flock(stream, fcntl.LOCK_EX)
                if self.has(checksum):
                    Path(stream.name).unlink(missing_ok=True)
                    yield None
                    return
                # Another fetcher may have moved away the file that we waited for: then ours is nobody's.
                if _same(stream, Path(stream.name)):
                    yield stream
                    return

    def complete_part(self, checksum: str, sha256: str) -> Path:
        """Move a verified unfinished file to its place at once.

        :param checksum: under which it was unfinished (an npm tarball's SHA-512 is known before its SHA-256).
        """
        place = self.path(sha256)
        part = self.partial / f"{checksum}.part"
        part.chmod(0o444)
        part.replace(place)
        return place

    def drop(self, sha256: str) -> None:
        """Forget a file whose bytes turned out to be damaged."""
        self.path(sha256).unlink(missing_ok=True)


def _same(stream: io.BufferedRandom, path: Path) -> bool:
    try:
        mine, there = Path(f"/proc/self/fd/{stream.fileno()}").stat(), path.stat()
    except FileNotFoundError:
        return False
    return (mine.st_dev, mine.st_ino) == (there.st_dev, there.st_ino)
