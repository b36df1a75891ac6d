"""`python3 -m hubsmith.plan --root DIR IMAGE`: print the manifest. This is how the build's sandbox makes it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from hubsmith.definition import canonical, define
from hubsmith.errors import HubsmithError
from hubsmith.lock import inputs_of
from hubsmith.lock.files import committed_path, load_matching
from hubsmith.lock.inputs import TOOLS
from hubsmith.plan import dumps, make


def main() -> int:
    """Print the manifest of an image from the lock that stands beside its definition."""
    parser = argparse.ArgumentParser(prog="hubsmith.plan")
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--refreshed", action="store_true", help="say in the manifest that the lock was refreshed")
    parser.add_argument("image")
    args = parser.parse_args()
    try:
        path = committed_path(args.root, args.image)
        lock = load_matching(path, inputs_of(args.root, args.image))
        tools = committed_path(args.root, TOOLS)
        manifest = make(
            define(args.root, args.image), lock, lock_sha256=canonical.file_sha256(path),
            tools_sha256=canonical.file_sha256(tools) if tools.is_file() else None, refreshed=args.refreshed,
        )  # fmt: skip
    except HubsmithError as error:
        print(f"plan: {error}", file=sys.stderr)
        return error.exit_code
    sys.stdout.write(dumps(manifest))
    return 0


if __name__ == "__main__":
    sys.exit(main())
