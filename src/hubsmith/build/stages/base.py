"""Stage `base`: packages and environments joined into one read-only root, before anything of the modules is in it.

Output: a folder with ``base.erofs``, ``entries.json`` (every path with type, mode, owner, size and checksum) and
``early.json`` (what the stage `root` must read of the packages: accounts and units).
"""

from __future__ import annotations

import json
import os
import sys
import tarfile
import uuid
from pathlib import Path

from hubsmith.build import erofs, rules, tree

#: Where an image has the archives of its container images.
CONTAINERS = "usr/share/hubsmith/containers"


def containers(built: list[dict[str, str]], epoch: int, tar: Path) -> Path:
    """The archives of container images at their place in the root, as a tar."""
    with tarfile.open(tar, "w", format=tarfile.PAX_FORMAT) as out:
        for parent in reversed(Path(CONTAINERS, "x").parents[:-1]):
            member = tarfile.TarInfo(f"./{parent}")
            member.type, member.mode, member.mtime = tarfile.DIRTYPE, 0o755, epoch
            out.addfile(member)
        for one in built:
            member = tarfile.TarInfo(f"./{CONTAINERS}/{one['name']}.oci.tar")
            member.mode, member.mtime, member.size = 0o644, epoch, Path(one["archive"]).stat().st_size
            with Path(one["archive"]).open("rb") as archive:
                out.addfile(member, archive)
    return tar


def main() -> None:
    """Read the specification, write the folder to ``$out``."""
    spec = json.loads(Path(sys.argv[1]).read_text())
    epoch = int(spec["epoch"])
    out = Path(os.environ["out"])
    out.mkdir()
    join = tree.Join(epoch, rules.image_path, rules.wanted_early)
    tars = [Path(spec["packages"]), *map(Path, spec["envs"])]
    if spec["containers"]:
        tars.append(containers(spec["containers"], epoch, Path("/build/containers.tar")))
    # The stage `root` gives it the identity of the image.
    erofs.fill(out / "base.erofs", epoch, str(uuid.UUID(int=0)), lambda stream: join.write(tars, stream))
    tree.dump(join.entries, out / "entries.json")
    (out / "early.json").write_text(json.dumps(join.kept, sort_keys=True))


if __name__ == "__main__":
    main()
