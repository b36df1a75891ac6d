"""Stage `manifest`: the image's manifest, made by the code of `hubsmith plan`."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

from hubsmith.errors import HubsmithError
from hubsmith.lock.files import LockChoice, committed_path
from hubsmith.plan import dumps
from hubsmith.plan.images import manifest_with


def main() -> None:
    """Arrange the sources as a project tree, and write the manifest to ``$out``."""
    spec = json.loads(Path(sys.argv[1]).read_text())
    tree = Path("/build/tree")
    links = {"src": spec["code"], "nix/tools.lock.json": spec["tools_lock"]}
    links |= {f"images/{name}.toml": file for name, file in spec["definitions"].items()}
    links |= {f"images/{name}.lock.json": lock["path"] for name, lock in spec["locks"].items()}
    links |= {f"modules/{name}": folder for name, folder in spec["modules"].items()}
    for path, target in links.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).symlink_to(target)
    # Copied, because a link would have another checksum than its target.
    shutil.copytree(spec["nix"], tree / "nix", dirs_exist_ok=True)

    def choose(name: str) -> LockChoice:
        return LockChoice(committed_path(tree, name), name in spec["locks"] and spec["locks"][name]["refreshed"])

    try:
        manifest = manifest_with(tree, spec["image"], choose)
    except HubsmithError as error:
        raise SystemExit(f"plan: {error}") from None
    Path(os.environ["out"]).write_text(dumps(manifest))


if __name__ == "__main__":
    main()
