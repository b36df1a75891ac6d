"""Canonical JSON: one text per value, so that a file's checksum is a checksum of what it says."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any


def dumps(value: Any) -> str:
    """Keys sorted, one space of indentation, a newline at the end."""
    return json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False) + "\n"


def sha256(value: Any) -> str:
    """The SHA-256 (hex) of a value's canonical JSON."""
    return hashlib.sha256(dumps(value).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """The SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write(path: Path, text: str) -> None:
    """Replace a file as a whole: a reader sees the old text or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
            os.fchmod(stream.fileno(), 0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
