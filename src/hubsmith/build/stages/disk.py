"""Stage `disk`: the raw GPT disk alone, for `nix build` and for tests.

The stage `image` makes the same disk itself. If it used this stage's output, Nix would have to read and hash the whole
disk again, including holes.
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
