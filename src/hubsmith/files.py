"""Canonical JSON, checksums, and atomic writes.

The guest has its own functions (:mod:`hubsmith.guest.files`), which set owners and write only what differs.
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
    """Return a value as canonical JSON: equal values give equal texts.

    Keys are sorted, the indentation is one space, and there is a newline at the end.
    """
    return json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False) + "\n"


def canonical_sha256(value: Any) -> str:
    """Return the SHA-256 (hex) of a value's canonical JSON."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def sha256(path: Path) -> str:
    """Return the SHA-256 (hex) of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sums(folder: Path) -> str:
    """Return the `SHA256SUMS` of a folder's files, in the format of `sha256sum`."""
    return "".join(f"{sha256(path)}  {path.name}\n" for path in sorted(folder.iterdir()))


@contextmanager
def replacing(path: Path, *, mode: int = 0o644, durable: bool = False) -> Iterator[IO[bytes]]:
    """Open a stream whose content replaces a file atomically at the end of the block.

    Readers see the old or the new content, never a part. If the block fails, the old content stays.

    :param path: file to replace. Its folder is created if necessary.
    :param mode: mode of the file. Until it is complete, only its owner may read it.
    :param durable: the new content survives a crash of the host, even right after the replacement.
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
    """Write a text file (UTF-8) atomically; see :func:`replacing`."""
    with replacing(path, mode=mode, durable=durable) as stream:
        stream.write(text.encode())
