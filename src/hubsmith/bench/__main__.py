"""`scripts/bench [PART…]`: run benchmarks and print raw numbers and ratios as JSON."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable

from hubsmith.bench import boot, build, cluster
from hubsmith.paths import project_root

#: Benchmarks by name. Each returns raw numbers and ratios by name.
PARTS: dict[str, Callable[..., dict[str, float]]] = {
    "build": build.measure, "boot": boot.measure, "cluster": cluster.measure,
}  # fmt: skip


def main() -> int:
    """Run the requested benchmarks."""
    parser = argparse.ArgumentParser(prog="scripts/bench")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of: {', '.join(PARTS)}; all of them by default")
    wanted = parser.parse_args().parts or list(PARTS)
    if unknown := set(wanted) - PARTS.keys():
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    root = project_root()
    found = {part: PARTS[part](root) for part in wanted}
    print(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
