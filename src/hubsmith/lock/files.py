"""Lock files: location, reading and writing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from hubsmith import files
from hubsmith.errors import LockError
from hubsmith.lock.inputs import TOOLS, Inputs, inputs_of
from hubsmith.lock.models import Lock
from hubsmith.paths import cache_dir


@dataclass(frozen=True)
class LockChoice:
    """Lock to be used by a stage.

    :ivar path: file of the lock.
    :ivar refreshed: whether it replaces the committed lock, whose artifacts are gone from the archives.
    """

    path: Path
    refreshed: bool


def committed_path(root: Path, name: str) -> Path:
    """Return the path of the committed lock."""
    return root / "nix" / "tools.lock.json" if name == TOOLS else root / "images" / f"{name}.lock.json"


def refreshed_path(name: str) -> Path:
    """Return the path of the lock that `fetch --refresh-if-gone` writes."""
    return cache_dir() / "locks" / f"{name}.lock.json"


def locate(root: Path, name: str, *, refreshed: bool = False) -> LockChoice:
    """Choose between the committed and the refreshed lock.

    :param refreshed: prefer the refreshed lock if it exists and matches the definition.
    :raises DefinitionError: the definition is invalid.
    """
    apart = refreshed_path(name)
    if refreshed and apart.is_file():
        try:
            load_matching(apart, inputs_of(root, name))
        except LockError:
            pass
        else:
            return LockChoice(apart, True)
    return LockChoice(committed_path(root, name), False)


def load(path: Path, *, hint: str = "hubsmith lock") -> Lock:
    """Read a lock.

    :param hint: hint for the error message.
    :raises LockError: the lock is missing, or was not written by this version of hubsmith.
    """
    try:
        return Lock.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise LockError("there is no lock", where=str(path), hint=hint) from None
    except UnicodeDecodeError:
        raise LockError("not a lock: not UTF-8", where=str(path), hint=hint) from None
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise LockError(
            f"not a lock that this version reads: {key}: {first['msg']}", where=str(path), hint=hint
        ) from None


def dumps(lock: Lock) -> str:
    """Return a lock as canonical JSON."""
    return files.canonical(json.loads(lock.model_dump_json(by_alias=True, exclude_none=True)))


def save(lock: Lock, path: Path) -> None:
    """Write a lock as canonical JSON, atomically."""
    files.write(path, dumps(lock))


def load_matching(path: Path, inputs: Inputs) -> Lock:
    """Read a lock and check that it was made from these inputs.

    :raises LockError: the lock is missing or was made from another definition.
    """
    hint = f"hubsmith lock {inputs.name}"
    lock = load(path, hint=hint)
    if lock.image != inputs.name:
        raise LockError(f"this is the lock of {lock.image!r}, not of {inputs.name!r}", where=str(path), hint=hint)
    if lock.inputs_sha256 != inputs.sha256:
        raise LockError(
            "the lock does not match its definition: the packages asked for, or an extended image, changed",
            where=str(path),
            hint=hint,
        )
    return lock
