"""Stage `base`: packages and environments joined into one read-only root, before anything of the modules is in it.

Output: a folder with ``base.erofs``, ``entries.json`` (every path with type, mode, owner, size and checksum) and
``early.json`` (what the stage `root` must read of the packages: accounts and units).
"""

from __future__ import annotations

import json
import os
import sys
import uuid
from pathlib import Path

from hubsmith.build import erofs, rules, tree


def main() -> None:
    """Read the specification, write the folder to ``$out``."""
    spec = json.loads(Path(sys.argv[1]).read_text())
    epoch = int(spec["epoch"])
    out = Path(os.environ["out"])
    out.mkdir()
    join = tree.Join(epoch, rules.place, rules.wanted_early)
    tars = [Path(spec["packages"]), *map(Path, spec["envs"])]
    # The stage `root` gives it the identity of the image.
    erofs.fill(out / "base.erofs", epoch, str(uuid.UUID(int=0)), lambda stream: join.write(tars, stream))
    tree.dump(join.entries, out / "entries.json")
    (out / "early.json").write_text(json.dumps(join.kept, sort_keys=True))


if __name__ == "__main__":
    main()
