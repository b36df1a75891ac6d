"""Stage `container`: a container image with two layers, the packages and the modules' files.

Output: a folder with ``<name>.oci.tar``, manifest, SBOM and checksums.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from hubsmith.build import accounts, oci, release, rules, tree
from hubsmith.build.stages.root import module_files, sysusers_of
from hubsmith.build.tree import Overlay


def layers(spec: dict[str, Any], manifest: dict[str, Any], folder: Path) -> tuple[list[tuple[str, Path]], tree.Entries]:
    """Write both layers as tars, and return them with the entries of the whole root."""
    epoch, modules = int(manifest["source_date_epoch"]), spec["modules"]
    packages, own = folder / "packages.tar", folder / "modules.tar"
    # No program in a container may be setuid.
    join = tree.Join(epoch, rules.container_path, rules.wanted_early, set_id=lambda path: False)
    with packages.open("wb") as stream:
        join.write([Path(spec["packages"]), *map(Path, spec["envs"])], stream)
    current = {path: join.kept[path][1].encode() for path in rules.ACCOUNTS}
    tables = accounts.make(folder / "accounts", current, sysusers_of(manifest, modules), epoch)
    uid, gid = accounts.ids(tables["etc/passwd"]), accounts.ids(tables["etc/group"])
    overlay = Overlay(join.entries, epoch)
    overlay.add(*accounts.additions(tables), *module_files(manifest, modules, uid, gid))
    with own.open("wb") as stream:
        entries = overlay.write(stream)
    return [("packages", packages), ("modules", own)], entries


def main() -> None:
    """Read the specification, write the folder to ``$out``."""
    spec = json.loads(Path(sys.argv[1]).read_text())
    name, manifest = spec["name"], json.loads(Path(spec["manifest"]).read_bytes())
    out, scratch = Path(os.environ["out"]), Path("/build/container")
    out.mkdir()
    scratch.mkdir()
    made, entries = layers(spec, manifest, scratch)
    digest = oci.write(
        out / f"{name}.oci.tar", f"hubsmith/{name}", made, manifest["container"], int(manifest["source_date_epoch"])
    )
    (out / "digest").write_text(digest + "\n")
    tree.dump(entries, out / "entries.json")
    release.finish(out, Path(spec["manifest"]))


if __name__ == "__main__":
    main()
