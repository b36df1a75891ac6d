"""`python3 -m hubsmith.plan --root DIR IMAGE`: print the manifest. This is how the build's sandbox makes it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from hubsmith.errors import HubsmithError
from hubsmith.lock.files import LockChoice, committed_path
from hubsmith.plan import dumps
from hubsmith.plan.images import manifest_with


def main() -> int:
    """Print the manifest of an image from the lock that stands beside its definition."""
    parser = argparse.ArgumentParser(prog="hubsmith.plan")
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument(
        "--refreshed",
        action="append",
        default=[],
        metavar="IMAGE",
        help="say in the manifest that this lock was refreshed",
    )
    parser.add_argument("image")
    args = parser.parse_args()

    def choose(name: str) -> LockChoice:
        return LockChoice(committed_path(args.root, name), name in args.refreshed)

    try:
        manifest = manifest_with(args.root, args.image, choose)
    except HubsmithError as error:
        print(f"plan: {error}", file=sys.stderr)
        return error.exit_code
    sys.stdout.write(dumps(manifest))
    return 0


if __name__ == "__main__":
    sys.exit(main())
