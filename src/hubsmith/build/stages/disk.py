"""Stage `disk`: root, verity hashes, kernel and boot loaders as one raw GPT disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

from hubsmith.disk import gpt, grub, uki


def main() -> None:
    """Read the specification, write the disk file to ``$out``."""
    spec = json.loads(Path(sys.argv[1]).read_text())
    manifest = json.loads(Path(spec["manifest"]).read_text())
    scratch = Path("/build")
    root, kernel = Path(spec["root"]), Path(spec["initrd"])
    disk, esp, folder = scratch / "disk.raw", scratch / "esp", scratch / "repart.d"
    # The seed gives every partition its UUID: a function of the manifest, so that images differ and rebuilds do not.
    seed = str(uuid.uuid5(uuid.NAMESPACE_URL, "hubsmith:" + json.dumps(manifest, sort_keys=True)))

    gpt.definitions(manifest["disk"], folder, root / "root.erofs", esp)
    roothash = gpt.partition(disk, folder, seed, with_esp=False)["root-a"].roothash
    if roothash is None:
        raise SystemExit("systemd-repart reported no root hash")
    cmdline = " ".join([*manifest["kernel"]["cmdline"], f"roothash={roothash}"])
    uki.esp_tree(esp, kernel, cmdline, f"hubsmith {spec['name']}", str(manifest["source_date_epoch"]))
    bios = gpt.partition(disk, folder, seed, with_esp=True)["bios"]
    grub.install(disk, bios.start, bios.size, scratch)
    out = Path(os.environ["out"])
    out.mkdir()
    subprocess.run(["cp", "--sparse=always", disk, out / "disk.raw"], check=True)
    (out / "roothash").write_text(roothash + "\n")


if __name__ == "__main__":
    main()
