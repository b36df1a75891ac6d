"""Stage `manifest`: the plan of the image, made by the same code as `hubsmith plan`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path


def main() -> None:
    """Lay the sources out as a project tree, write the manifest to ``$out``."""
    spec = json.loads(Path(sys.argv[1]).read_text())
    tree = Path("/build/tree")
    (tree / "images").mkdir(parents=True)
    for name, definition in spec["definitions"].items():
        (tree / "images" / f"{name}.toml").symlink_to(definition)
    for name, lock in spec["locks"].items():
        (tree / "images" / f"{name}.lock.json").symlink_to(lock["path"])
    (tree / "modules").symlink_to(spec["modules"])
    (tree / "src").symlink_to(os.environ["PYTHONPATH"])
    shutil.copytree(spec["nix"], tree / "nix")
    shutil.copyfile(spec["tools_lock"], tree / "nix" / "tools.lock.json")
    with Path(os.environ["out"]).open("wb") as out:
        subprocess.run(
            [
                sys.executable, "-m", "hubsmith.plan", "--root", tree,
                *(f"--refreshed={name}" for name, lock in spec["locks"].items() if lock["refreshed"]), spec["image"],
            ],
            stdout=out, check=True,
        )  # fmt: skip


if __name__ == "__main__":
    main()
