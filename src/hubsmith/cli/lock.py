"""`hubsmith lock`: solve packages and write locks."""

from __future__ import annotations

import argparse
import sys

from hubsmith.definition import image_names
from hubsmith.errors import LockError
from hubsmith.lock import committed_path, inputs_of, save
from hubsmith.lock.artifacts import artifacts_of
from hubsmith.lock.files import load_matching
from hubsmith.lock.inputs import TOOLS
from hubsmith.paths import project_root
from hubsmith.progress import human


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("images", nargs="*", metavar="IMAGE", help="an image, or `tools` (default: all)")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--upgrade", action="store_true", help="solve again even if the lock matches its definition")
    which.add_argument(
        "--check", action="store_true", help="only check whether the locks match (exit code 4 if not), without network"
    )


def main(args: argparse.Namespace) -> int:
    """Run the verb."""
    from hubsmith.lock.solve import solve

    root = project_root()
    names = args.images or [TOOLS, *image_names(root)]
    wanted = [inputs_of(root, name) for name in names]
    stale = []
    for inputs in wanted:
        try:
            load_matching(committed_path(root, inputs.name), inputs)
        except LockError:
            if args.check:
                raise
            stale.append(inputs)
        else:
            if args.upgrade:
                stale.append(inputs)
    for inputs in wanted:
        if inputs not in stale:
            print(f"{inputs.name}: the lock matches its definition", file=sys.stderr)
    for name, lock in solve(stale).items():
        path = committed_path(root, name)
        save(lock, path)
        artifacts = artifacts_of([lock])
        size = human(sum(artifact.size for artifact in artifacts))
        print(f"{name}: {len(artifacts)} artifacts, {size} -> {path.relative_to(root)}", file=sys.stderr)
    return 0
