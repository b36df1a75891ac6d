"""Golden checksums of manifests. They are committed, so that each change shows which images it affects."""

from __future__ import annotations

import hashlib
from pathlib import Path

from hubsmith import files


def path_of(root: Path, image: str) -> Path:
    """Return the path of the committed checksum of an image's manifest."""
    return root / "tests" / "golden" / f"{image}.manifest.sha256"


def line(image: str, text: str) -> str:
    """Return the content of the checksum file, in the format of `sha256sum`.

    :param text: canonical text of the manifest.
    """
    return f"{hashlib.sha256(text.encode()).hexdigest()}  {image}.manifest.json\n"


def write(root: Path, image: str, text: str) -> bool:
    """Write the checksum file of a manifest.

    :returns: whether the checksum changed.
    """
    path, new = path_of(root, image), line(image, text)
    if path.exists() and path.read_text() == new:
        return False
    files.write(path, new)
    return True


def touched(root: Path, texts: dict[str, str]) -> list[str]:
    """Return the names of the images whose manifest differs from the committed checksum, sorted.

    :param texts: canonical text of each image's manifest.
    """
    return sorted(
        image
        for image, text in texts.items()
        if not path_of(root, image).exists() or path_of(root, image).read_text() != line(image, text)
    )
