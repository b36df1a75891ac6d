"""The auditor lynis, in the version that the tests of the hardening run."""

from __future__ import annotations

from pathlib import Path

import pytest

from hubsmith.archives.artifacts import Artifact, ArtifactsGone
from hubsmith.archives.cache import Cache
from hubsmith.archives.transfer import download

#: Debian 13's package. Its figures are those of this version, so an update changes docs/operators/hardening.md.
PACKAGE = Artifact(
    "debian", "lynis", "3.1.4-1", "pool/main/l/lynis/lynis_3.1.4-1_all.deb", 273376,
    "0cc9791cdabefe427c6eaf5643d10714aa84fb27b6105ec7773391e6f513fb97",
)  # fmt: skip


def package() -> Path:
    """Return the Debian package, downloading it into the cache from this computer's mirror if necessary."""
    cache = Cache()
    if not cache.has(PACKAGE.sha256):
        try:
            download([PACKAGE], cache, 1)
        except ArtifactsGone:
            pytest.fail(f"{PACKAGE} is gone from the archive: name its newer version in {__file__}", pytrace=False)
    return cache.path(PACKAGE.sha256)
