"""`hubsmith verify`: check the signature, checksums and test report of a release."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from hubsmith.errors import ImageFailed
from hubsmith.release.signature import default_key
from hubsmith.release.verify import Finding, verify


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="folder of the release")
    parser.add_argument(
        "--keys", type=Path, metavar="FILE",
        help="public keys that may sign releases (default: your own, ~/.config/hubsmith/release_key.pub)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print the results as JSON")


def main(args: argparse.Namespace) -> int:
    """Run the verb.

    :raises ImageFailed: a check failed.
    """

    def report(finding: Finding) -> None:
        if not args.json:
            print(f"WRONG  {finding.what}: {finding.why}" if finding.why else f"good   {finding.what}")

    own = default_key()
    findings = verify(args.folder, args.keys or own.with_name(f"{own.name}.pub"), report)
    if args.json:
        print(json.dumps([asdict(one) for one in findings], indent=1))
    if wrong := [one.what for one in findings if one.why]:
        raise ImageFailed(f"not to be trusted: {', '.join(wrong)}", where=str(args.folder))
    return 0
