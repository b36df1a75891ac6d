"""Assembly of the disk: root, verity hashes, kernel and boot loaders."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

from hubsmith.disk import esp, gpt, grub, layout, uki


def assemble(spec: dict[str, Any], scratch: Path) -> tuple[Path, str]:
    """Create the raw disk in a scratch folder.

    :param spec: ``name``, ``manifest`` (file), ``root`` and ``initrd`` (folders of these stages).
    :returns: file of the disk, and the root hash.
    :raises SystemExit: systemd-repart reported no root hash.
    """
    manifest = json.loads(Path(spec["manifest"]).read_text())
    root, kernel = Path(spec["root"]), Path(spec["initrd"])
    disk, esp_tree, esp_image, folder = (scratch / name for name in ("disk.raw", "esp", "esp.img", "repart.d"))
    # All partition UUIDs depend on the seed, which depends on the manifest. So they are unique and reproducible.
    seed = uuid.uuid5(uuid.NAMESPACE_URL, "hubsmith:" + json.dumps(manifest, sort_keys=True))

    gpt.definitions(manifest["disk"], folder, root / "root.erofs")
    roothash = gpt.partition(disk, folder, seed, with_esp=False)["root-a"].roothash
    if roothash is None:
        raise SystemExit("systemd-repart reported no root hash")
    cmdline = " ".join([*manifest["kernel"]["cmdline"], f"roothash={roothash}"])
    uki.esp_tree(esp_tree, kernel, cmdline, f"hubsmith {spec['name']}", str(manifest["source_date_epoch"]))
    esp.make(esp_image, manifest["disk"]["esp_mb"] * layout.MIB, seed.node & 0xFFFFFFFF, esp_tree)
    gpt.add_esp(folder, esp_image)
    bios = gpt.partition(disk, folder, seed, with_esp=True)["bios"]
    grub.install(disk, bios.start, bios.size, scratch)
    return disk, roothash
