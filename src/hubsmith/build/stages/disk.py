"""Stage `disk`: the raw GPT disk alone, for `nix build` and for the tests.

The stage `image` makes the same disk for itself: as an output of the way to the image, Nix would read and hash it once
more, holes included.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from hubsmith.disk.assemble import assemble


def main() -> None:
    """Read the specification, write the folder to ``$out``."""
    disk, roothash = assemble(json.loads(Path(sys.argv[1]).read_text()), Path("/build"))
    out = Path(os.environ["out"])
    out.mkdir()
    subprocess.run(["cp", "--sparse=always", disk, out / "disk.raw"], check=True)
    (out / "roothash").write_text(roothash + "\n")


if __name__ == "__main__":
    main()
