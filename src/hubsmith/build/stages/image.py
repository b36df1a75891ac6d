"""Stage `image`: the output folder, with the disk, manifest, SBOM and checksums."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from hubsmith.build import release
from hubsmith.disk.assemble import assemble


def main() -> None:
    """Read the specification, write the folder to ``$out``."""
    spec = json.loads(Path(sys.argv[1]).read_text())
    name, out = spec["name"], Path(os.environ["out"])
    out.mkdir()
    disk, roothash = assemble(spec, Path("/build"))
    # Clusters are written in order (no -W), so the same disk gives the same file.
    subprocess.run(
        ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-c", "-m", "4",
         "-o", "compression_type=zstd,lazy_refcounts=off",
         disk, out / f"{name}.qcow2"],
        check=True,
    )  # fmt: skip
    (out / "roothash").write_text(roothash + "\n")
    shutil.copyfile(Path(spec["root"]) / "entries.json", out / "entries.json")
    release.finish(out, Path(spec["manifest"]))


if __name__ == "__main__":
    main()
