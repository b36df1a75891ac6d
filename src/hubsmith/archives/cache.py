"""Content-addressed cache of artifacts: `<cache>/artifacts/sha256/<hex>`."""

from __future__ import annotations

import fcntl
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hubsmith.paths import cache_dir


class Cache:
    """Cache of complete files by SHA-256. Partial files are kept apart, each protected by a lock on the file.

    :param folder: folder of the cache; by default hubsmith's.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = (folder or cache_dir()) / "artifacts"
        self.complete = self.folder / "sha256"
        self.partial = self.folder / "partial"
        self.complete.mkdir(parents=True, exist_ok=True)
        self.partial.mkdir(exist_ok=True)

    def path(self, sha256: str) -> Path:
        """Return the path of a complete file, whether or not it exists."""
        return self.complete / sha256

    def has(self, sha256: str, size: int | None = None) -> bool:
        """Whether the complete file exists. Its checksum was verified when it was stored."""
        try:
            found = self.path(sha256).stat().st_size
        except FileNotFoundError:
            return False
        return size is None or found == size

    @contextmanager
    def part(self, checksum: str) -> Iterator[io.BufferedRandom | None]:
        """Open a partial file for reading and appending, locked against other processes.

        :returns: the stream, or None if another process completed the file in the meantime.
        """
        while True:
            with (self.partial / f"{checksum}.part").open("a+b") as stream:
                fcntl.flock(stream, fcntl.LOCK_EX)
                if self.has(checksum):
                    Path(stream.name).unlink(missing_ok=True)
                    yield None
                    return
                # Another process may have moved or deleted the file while we waited for its lock. Then try again.
                if _same(stream, Path(stream.name)):
                    yield stream
                    return

    def complete_part(self, checksum: str, sha256: str) -> Path:
        """Move a verified partial file to its final path, atomically.

        :param checksum: name of the partial file. For npm tarballs it is the SHA-512, which is known first.
        :param sha256: SHA-256 of the file.
        """
        place = self.path(sha256)
        part = self.partial / f"{checksum}.part"
        part.chmod(0o444)
        part.replace(place)
        return place

    def drop(self, sha256: str) -> None:
        """Delete a damaged file."""
        self.path(sha256).unlink(missing_ok=True)


def _same(stream: io.BufferedRandom, path: Path) -> bool:
    try:
        mine, there = Path(f"/proc/self/fd/{stream.fileno()}").stat(), path.stat()
    except FileNotFoundError:
        return False
    return (mine.st_dev, mine.st_ino) == (there.st_dev, there.st_ino)
