"""Artifacts: single files in package archives."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hubsmith.errors import FetchError

Kind = Literal["debian", "debian-security", "pypi", "npm"]


@dataclass(frozen=True, order=True)
class Artifact:
    """One locked file.

    :ivar kind: archive that contains the file.
    :ivar path: path relative to the archive. For a wheel it is the file name, since an index may store it anywhere.
    :ivar size: size in bytes.
    """

    kind: Kind
    name: str
    version: str
    path: str
    size: int
    sha256: str

    def __str__(self) -> str:
        return f"{self.name} {self.version} ({self.kind})"

    @property
    def store_name(self) -> str:
        """Name in the Nix store.

        It is the file name, with characters that the store does not allow replaced. An npm tarball is named after its
        package, because its file name lacks the scope.
        """
        if self.kind == "npm":
            return store_name(f"{self.name.replace('@', '').replace('/', '-')}-{self.version}.tgz")
        return store_name(self.path.rsplit("/", 1)[-1])


def store_name(name: str) -> str:
    """Convert a file name to a valid name in the Nix store. `nix/default.nix` does the same."""
    clean = re.sub(r"[^0-9a-zA-Z+._?=-]", "_", name)
    return f"_{clean}" if clean.startswith(".") else clean


class ArtifactsGone(FetchError):
    """Some artifacts of a lock are gone from the archives.

    :param gone: the missing artifacts.
    :param details: a line for each artifact; by default its name.
    """

    def __init__(
        self, gone: Sequence[Artifact], details: Sequence[str] = (), hint: str = "hubsmith lock --upgrade"
    ) -> None:
        self.gone = list(gone)
        count = "1 artifact is" if len(gone) == 1 else f"{len(gone)} artifacts are"
        lines = details or [str(artifact) for artifact in gone]
        super().__init__(f"{count} gone from the archive" + "".join(f"\n  - {line}" for line in lines), hint=hint)
