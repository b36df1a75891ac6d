"""Stage `base`: one read-only root of the packages and environments, without the modules' files.

Output: a folder with ``base.erofs``, ``entries.json`` (type, mode, owner, size and checksum of every path) and
``early.json`` (files of the packages that the stage `root` must read: accounts and units).
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

#: Folder of the container images. Each has `config.json`, `layers.json` and a numbered folder per layer, the lowest
#: first. The module `docker` registers them with the engine.
CONTAINERS = "usr/share/hubsmith/containers"


def containers(built: list[dict[str, str]], epoch: int, tar: Path) -> Path:
    """Write a tar with the unpacked layers of container images, at their paths in the root.

    :param built: `name` and `archive` (from :mod:`hubsmith.build.oci`) of each container image.
    :returns: ``tar``.
    :raises ValueError: a layer removes entries of a lower one.
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
    """Copy the entries of a layer to a folder of the tar, and return the total size of its files in bytes."""
    size = 0
    with tarfile.open(fileobj=archive.extractfile(layer), mode="r:") as source:
        for member in source:
            path = tree.plain(member.name)
            if Path(path).name.startswith(tree.WHITEOUT):
                raise ValueError(f"a layer of a container image takes away /{path}")
            member.name = f"{place}/{path}" if path else place
            # Path headers would override the member's new name.
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
    # The stage `root` sets the image's UUID.
    erofs.fill(out / "base.erofs", epoch, str(uuid.UUID(int=0)), lambda stream: join.write(tars, stream))
    tree.dump(join.entries, out / "entries.json")
    (out / "early.json").write_text(json.dumps(join.kept, sort_keys=True))


if __name__ == "__main__":
    main()
