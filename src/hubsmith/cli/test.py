"""`hubsmith test`: prove a built image in virtual machines and write its report."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from hubsmith.errors import HarnessFailed, ImageFailed
from hubsmith.output import Output
from hubsmith.paths import project_root
from hubsmith.release.folder import REPORT
from hubsmith.run import spawn


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.description = (
        "Run the tests that the image takes part in and that are not proven for its bytes, slow ones and scenarios "
        "too, and write the report that a release needs. An interrupted run continues where it was."
    )
    parser.add_argument("image", metavar="IMAGE")
    parser.add_argument("--fresh", action="store_true", help="run proven tests again")
    parser.add_argument("--budget", type=float, metavar="MIN", help="start no test after this many minutes")
    parser.add_argument("--list", action="store_true", help="only list what is missing; run nothing")
    parser.add_argument("--json", action="store_true", help="print the report as JSON instead of a summary")


def main(args: argparse.Namespace) -> int:
    """Run the verb.

    :raises HubsmithError: the image is not built.
    :raises ImageFailed: a test failed, or something is not proven.
    :raises HarnessFailed: the tests could not be run, or only the harness failed.
    """
    root = project_root()
    report = Output.of(root, args.image).disk.parent / REPORT
    report.unlink(missing_ok=True)
    budget = 0.0 if args.list else args.budget
    stop = [] if budget is None else ["--stop-at", str(time.time() + 60 * budget)]
    argv: list[str | Path] = [
        sys.executable, "-m", "pytest", "tests", "--about", args.image, "--report", report,
        *(["--fresh"] if args.fresh else []), *stop,
    ]  # fmt: skip
    # In our process group, so that pytest gets a Ctrl-C and stops its machines in order.
    child = spawn(argv, cwd=root, stdout=sys.stderr.fileno(), stderr=subprocess.STDOUT, own_group=False)
    while True:
        try:
            code = child.wait()
            break
        except KeyboardInterrupt:
            continue
    if not report.is_file():
        raise HarnessFailed(f"the tests ended with exit code {code} and without a report")
    found = json.loads(report.read_text())
    print(json.dumps(found, indent=1) if args.json else summary(report, found))
    if found["green"]:
        return 0
    if sum(found["at_fault"].values()) == found["at_fault"]["harness"] > 0:
        raise HarnessFailed("the harness failed; the image was not judged", where=str(report))
    raise ImageFailed(
        f"not proven: {found['counts']['missing']} tests are missing", where=str(report),
        hint=f"hubsmith test {args.image}",
    )  # fmt: skip


def summary(report: Path, found: dict[str, Any]) -> str:
    """Return a summary of the report."""
    counts = found["counts"]
    lines = [
        f"{'green' if found['green'] else 'not green'}: {counts['passed']} tests passed, {counts['missing']} missing; "
        f"{counts['checks']} checks inside machines passed, {counts['checks_skipped']} skipped",
        *(f"  skipped {check}: {why}" for check, why in found["skipped_checks"].items()),
        str(report),
    ]
    return "\n".join(lines)
