"""Files: canonical JSON (one text per value), checksums, and writing as a whole.

What the guest writes has its own way (:mod:`hubsmith.guest.files`): with owners, and only what differs.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


def canonical(value: Any) -> str:
    """A value as JSON whose checksum is a checksum of what it says: keys sorted, one space of indentation, a newline
    at the end."""
    return json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False) + "\n"


def canonical_sha256(value: Any) -> str:
    """The SHA-256 (hex) of a value's canonical JSON."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def sha256(path: Path) -> str:
    """The SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sums(folder: Path) -> str:
    """The lines of a `SHA256SUMS` for the files of a folder, as `sha256sum --check` reads them."""
    return "".join(f"{sha256(path)}  {path.name}\n" for path in sorted(folder.iterdir()))


@contextmanager
def replacing(path: Path, *, mode: int = 0o644, durable: bool = False) -> Iterator[IO[bytes]]:
    """A stream for new bytes of a file, which take the place of the old ones as a whole: a reader sees the old bytes or
    the new ones, never a part. When the block fails, the old ones stay.

    :param mode: of the file; until it is complete nobody but its owner may read it.
    :param durable: the new bytes survive a crash of the host, also when it comes right after.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
            os.fchmod(stream.fileno(), mode)
        if durable:
            settle(Path(name), path)
        else:
            Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def settle(partial: Path, path: Path) -> None:
    """Give a complete file its name so that both survive a crash of the host."""
    sync(partial)
    partial.replace(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Wait until a file's bytes, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write(path: Path, text: str, *, mode: int = 0o644, durable: bool = False) -> None:
    """Write a text file (UTF-8) as a whole; see :func:`replacing`."""
    with replacing(path, mode=mode, durable=durable) as stream:
        stream.write(text.encode())
