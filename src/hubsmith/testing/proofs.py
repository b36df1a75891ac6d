"""Proofs: tests that passed, under a checksum of everything that they depend on.

Images are the same bytes wherever they are built, so a passed test stays passed until one of its inputs changes. The
record is committed, ``tests/proofs/<folder>/<test file>.json``: a new clone need not run again what is proven.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hubsmith import files

FOLDER = Path("tests/proofs")


@dataclass(frozen=True)
class Inputs:
    """What a test depends on.

    :ivar images: names of images and what identifies the bytes that the test sees of them (hex).
    :ivar files: paths in the tree and their fingerprints (hex).
    """

    images: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def sha256(self) -> str:
        """The checksum (hex) of all of them."""
        return files.canonical_sha256({"images": dict(self.images), "files": dict(self.files)})


class Proofs:
    """The record of a tree.

    Each change is written at once, as a whole: a killed run loses nothing, and runs at the same time keep each other's
    proofs.

    :param root: the project's tree.
    """

    def __init__(self, root: Path) -> None:
        self.folder = root / FOLDER
        self._known: dict[Path, dict[str, Any]] = {}

    def get(self, test: str) -> dict[str, Any] | None:
        """The last proof of a test, valid or not.

        :param test: pytest's node ID, relative to the tree.
        """
        path, name = self._place(test)
        found = self._read(path).get(name)
        return dict(found) if found is not None else None

    def valid(self, test: str, inputs: Inputs) -> dict[str, Any] | None:
        """The proof of a test for these very inputs."""
        found = self.get(test)
        return found if found is not None and found.get("inputs") == inputs.sha256 else None

    def record(self, test: str, inputs: Inputs, **facts: Any) -> None:
        """Put down that a test passed; replaces its older proof."""
        path, name = self._place(test)
        with self._changing(path) as content:
            content[name] = {"inputs": inputs.sha256, **facts}

    def delete(self, test: str) -> None:
        """Remove the proof of a test, if there is one."""
        path, name = self._place(test)
        with self._changing(path) as content:
            content.pop(name, None)

    def prune(self, tests: set[str]) -> list[str]:
        """Remove the proofs of tests that no longer exist.

        :param tests: the IDs of all tests.
        :returns: the IDs of what was removed.
        """
        gone = sorted(test for test in self if test not in tests)
        for test in gone:
            self.delete(test)
        return gone

    def __iter__(self) -> Iterator[str]:
        for path in sorted(self.folder.rglob("*.json")):
            file = "tests" / path.relative_to(self.folder).with_suffix(".py")
            yield from (f"{file}::{name}" for name in self._read(path))

    def _place(self, test: str) -> tuple[Path, str]:
        file, _, name = test.partition("::")
        return self.folder / Path(file).relative_to("tests").with_suffix(".json"), name

    def _read(self, path: Path) -> dict[str, Any]:
        if path not in self._known:
            try:
                found = json.loads(path.read_text(encoding="utf-8"))
            except FileNotFoundError:
                found = {}
            self._known[path] = found
        return self._known[path]

    @contextmanager
    def _changing(self, path: Path) -> Iterator[dict[str, Any]]:
        """A file's content as it is now, written back at the end of the block."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._known.pop(path, None)
            yield (content := self._read(path))
            if content:
                files.write(path, files.canonical(content), durable=True)
            else:
                path.unlink(missing_ok=True)
        finally:
            os.close(lock)
