"""What lies beside an image in a release, whatever kind of image it is."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path


def finish(out: Path, manifest: Path) -> None:
    """Add the manifest, the bill of materials and the checksums to a folder that holds an image."""
    shutil.copyfile(manifest, out / "manifest.json")
    with (out / "sbom.cdx.json").open("wb") as sbom:
        subprocess.run([sys.executable, "-m", "hubsmith.plan.sbom", out / "manifest.json"], stdout=sbom, check=True)
    sums = []
    for path in sorted(out.iterdir()):
        with path.open("rb") as stream:
            sums.append(f"{hashlib.file_digest(stream, 'sha256').hexdigest()}  {path.name}\n")
    (out / "SHA256SUMS").write_text("".join(sums))
