"""Golden checksums of manifests: committed, so that a change shows which images it touches."""

from __future__ import annotations

import hashlib
from pathlib import Path

from hubsmith import files


def path_of(root: Path, image: str) -> Path:
    """The committed checksum of an image's manifest."""
    return root / "tests" / "golden" / f"{image}.manifest.sha256"


def line(image: str, text: str) -> str:
    """What that file holds for a manifest's canonical text, in the form of `sha256sum`."""
    return f"{hashlib.sha256(text.encode()).hexdigest()}  {image}.manifest.json\n"


def write(root: Path, image: str, text: str) -> bool:
    """Commit to a manifest.

    :returns: whether the checksum changed.
    """
    path, new = path_of(root, image), line(image, text)
    if path.exists() and path.read_text() == new:
        return False
    files.write(path, new)
    return True


def touched(root: Path, texts: dict[str, str]) -> list[str]:
    """The images whose manifest is not the committed one, sorted.

    :param texts: the canonical text of each image's manifest.
    """
    return sorted(
        image
        for image, text in texts.items()
        if not path_of(root, image).exists() or path_of(root, image).read_text() != line(image, text)
    )
