"""Artifacts: the single files that archives hold for us."""

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

    :ivar kind: the archive that it comes from.
    :ivar path: relative to the archive; a wheel's is its file name, since an index may keep it anywhere.
    :ivar size: bytes.
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
        """The name of its path in the Nix store, in the characters that the store allows: the file's own; a tarball of
        npm, whose file is named without its scope, is named after the package."""
        if self.kind == "npm":
            return store_name(f"{self.name.replace('@', '').replace('/', '-')}-{self.version}.tgz")
        return store_name(self.path.rsplit("/", 1)[-1])


def store_name(name: str) -> str:
    """A file name as a store path's name; `nix/default.nix` makes the same one."""
    clean = re.sub(r"[^0-9a-zA-Z+._?=-]", "_", name)
    return f"_{clean}" if clean.startswith(".") else clean


class ArtifactsGone(FetchError):
    """The archives no longer hold some artifacts of a lock.

    :param details: a line for each; the artifact's name without them.
    """

    def __init__(
        self, gone: Sequence[Artifact], details: Sequence[str] = (), mend: str = "hubsmith lock --upgrade"
    ) -> None:
        self.gone = list(gone)
        count = "1 artifact is" if len(gone) == 1 else f"{len(gone)} artifacts are"
        lines = details or [str(artifact) for artifact in gone]
        super().__init__(f"{count} gone from the archive" + "".join(f"\n  - {line}" for line in lines), mend=mend)
