"""Stage `base`: packages and environments joined into one read-only root, before anything of the modules is in it.

Output: a folder with ``base.erofs``, ``entries.json`` (every path with type, mode, owner, size and checksum) and
``early.json`` (what the stage `root` must read of the packages: accounts and units).
"""

from __future__ import annotations

import io
import json
import os
import sys
import tarfile
import uuid
from pathlib import Path

from hubsmith.build import erofs, rules, tree

#: Where an image has its container images: for each `config.json`, `layers.json` and a folder for each layer, numbered
#: from the lowest on. The module `docker` gives them to the engine.
CONTAINERS = "usr/share/hubsmith/containers"


def containers(built: list[dict[str, str]], epoch: int, tar: Path) -> Path:
    """The layers of container images, unpacked at their places in the root, as a tar.

    :param built: `name` and `archive` (as :mod:`hubsmith.build.oci` writes it) of each.
    :raises ValueError: a layer takes entries away from the one below.
    """
    with tarfile.open(tar, "w", format=tarfile.PAX_FORMAT) as out:
        for parent in reversed(Path(CONTAINERS, "x").parents[:-1]):
            _folder(out, f"./{parent}", epoch)
        for one in built:
            place = f"./{CONTAINERS}/{one['name']}"
            _folder(out, place, epoch)
            with tarfile.open(one["archive"], "r:") as archive:
                (saved,) = json.loads(_content(archive, "manifest.json"))
                config = _content(archive, saved["Config"])
                diffs, sizes = json.loads(config)["rootfs"]["diff_ids"], []
                for number, layer in enumerate(saved["Layers"]):
                    sizes.append(_unpacked(archive, layer, f"{place}/{number}", out))
            layers = [{"diff": diff, "size": size} for diff, size in zip(diffs, sizes, strict=True)]
            for name, content in (("config", config), ("layers", json.dumps(layers).encode())):
                member = tarfile.TarInfo(f"{place}/{name}.json")
                member.mode, member.mtime, member.size = 0o644, epoch, len(content)
                out.addfile(member, io.BytesIO(content))
    return tar


def _unpacked(archive: tarfile.TarFile, layer: str, place: str, out: tarfile.TarFile) -> int:
    """Copy the entries of a layer to below a place; how many bytes its files have."""
    size = 0
    with tarfile.open(fileobj=archive.extractfile(layer), mode="r:") as source:
        for member in source:
            path = tree.plain(member.name)
            if Path(path).name.startswith(tree.WHITEOUT):
                raise ValueError(f"a layer of a container image takes away /{path}")
            member.name = f"{place}/{path}" if path else place
            # A header has precedence over the name of the member.
            member.pax_headers = {
                key: value for key, value in member.pax_headers.items() if key not in ("path", "linkpath")
            }
            if member.islnk():
                member.linkname = f"{place}/{tree.plain(member.linkname)}"
            out.addfile(member, source.extractfile(member) if member.isreg() else None)
            size += member.size
    return size


def _folder(out: tarfile.TarFile, path: str, epoch: int) -> None:
    member = tarfile.TarInfo(path)
    member.type, member.mode, member.mtime = tarfile.DIRTYPE, 0o755, epoch
    out.addfile(member)


def _content(archive: tarfile.TarFile, path: str) -> bytes:
    stream = archive.extractfile(path)
    assert stream is not None
    return stream.read()


def main() -> None:
    """Read the specification, write the folder to ``$out``."""
    spec = json.loads(Path(sys.argv[1]).read_text())
    epoch = int(spec["epoch"])
    out = Path(os.environ["out"])
    out.mkdir()
    join = tree.Join(epoch, rules.image_path, rules.wanted_early, rules.may_set_id)
    tars = [Path(spec["packages"]), *map(Path, spec["envs"])]
    if spec["containers"]:
        tars.append(containers(spec["containers"], epoch, Path("/build/containers.tar")))
    # The stage `root` gives it the identity of the image.
    erofs.fill(out / "base.erofs", epoch, str(uuid.UUID(int=0)), lambda stream: join.write(tars, stream))
    tree.dump(join.entries, out / "entries.json")
    (out / "early.json").write_text(json.dumps(join.kept, sort_keys=True))


if __name__ == "__main__":
    main()
