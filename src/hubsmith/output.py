"""Read the output folder of a build (:mod:`hubsmith.build.release` writes it)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hubsmith.errors import HubsmithError

SUMS = "SHA256SUMS"


def checksums(folder: Path) -> dict[str, str]:
    """Read a folder's `SHA256SUMS`: SHA-256 (hex) by file name; empty if the file is missing."""
    sums = folder / SUMS
    lines = [line.split(maxsplit=1) for line in sums.read_text().splitlines()] if sums.is_file() else []
    return {name.removeprefix("*"): checksum for checksum, name in lines}


@dataclass(frozen=True)
class Output:
    """Output of a build, which may not exist yet.

    :ivar image: name of the image.
    :ivar folder: output folder.
    """

    image: str
    folder: Path

    @classmethod
    def of(cls, root: Path, image: str) -> Output:
        """Return the output of an image in a project tree."""
        return cls(image, root / "out" / image)

    @property
    def file(self) -> Path:
        """Path of the image: a disk, or the archive of a container image.

        :raises HubsmithError: the image is not built.
        """
        return self._built()[0]

    @property
    def disk(self) -> Path:
        """Path of the disk.

        :raises HubsmithError: the image is not built, or is a container image.
        """
        if (file := self.file).suffix != ".qcow2":
            raise HubsmithError("a container image has no disk", where=self.image)
        return file

    @property
    def sha256(self) -> str:
        """SHA-256 (hex) of the image.

        :raises HubsmithError: the image is not built.
        """
        return self._built()[1]

    @property
    def manifest(self) -> dict[str, Any]:
        """Manifest of the image; empty if missing."""
        path = self.folder / "manifest.json"
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}

    def _built(self) -> tuple[Path, str]:
        sums = checksums(self.folder)
        for name in (f"{self.image}.qcow2", f"{self.image}.oci.tar"):
            if name in sums and (self.folder / name).is_file():
                return self.folder / name, sums[name]
        raise HubsmithError(
            f"the image {self.image!r} is not built", where=str(self.folder), hint=f"hubsmith build {self.image}"
        )
