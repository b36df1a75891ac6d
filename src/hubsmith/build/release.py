"""What lies beside an image in a release, whatever kind of image it is."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from hubsmith import files


def finish(out: Path, manifest: Path) -> None:
    """Add the manifest, the bill of materials and the checksums to a folder that holds an image."""
    shutil.copyfile(manifest, out / "manifest.json")
    with (out / "sbom.cdx.json").open("wb") as sbom:
        subprocess.run([sys.executable, "-m", "hubsmith.plan.sbom", out / "manifest.json"], stdout=sbom, check=True)
    (out / "SHA256SUMS").write_text(files.sums(out))
