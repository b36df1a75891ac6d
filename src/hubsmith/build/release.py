"""Files next to the image in an output folder, for every kind of image."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from hubsmith import files
from hubsmith.build import sbom


def finish(out: Path, manifest: Path) -> None:
    """Add the manifest, the SBOM and the checksums to a folder with an image."""
    shutil.copyfile(manifest, out / "manifest.json")
    (out / "sbom.cdx.json").write_text(files.canonical(sbom.make(json.loads(manifest.read_text()))))
    (out / "SHA256SUMS").write_text(files.sums(out))
