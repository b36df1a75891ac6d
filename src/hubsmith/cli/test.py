"""`hubsmith test`: prove a built image in virtual machines and write its report."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from hubsmith.errors import HarnessFailed, HubsmithError, ImageFailed
from hubsmith.paths import project_root
from hubsmith.run import spawn
from hubsmith.testing.plugin import image_file

#: What proves an image, by its name.
NO_CONTAINER = "--ignore=tests/image/test_container.py"
SUITES = {
    "master": ("tests/image", NO_CONTAINER, "tests/vm"),
    "swarm-worker": ("tests/image", NO_CONTAINER, "tests/scenarios"),
}
REPORT = "test-report.json"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("image", metavar="IMAGE")
    parser.add_argument("--all", action="store_true", help="the slow tests too")
    parser.add_argument("--json", action="store_true", help="print the report as JSON instead of where it is")
    parser.add_argument(
        "pytest", nargs="*", metavar="ARG", help="for pytest, after `--`: a selection of tests; no report is written"
    )


def main(args: argparse.Namespace) -> int:
    """Run the verb.

    :raises HubsmithError: nothing proves this image.
    :raises ImageFailed: a test failed.
    :raises HarnessFailed: the tests could not be run, or only the harness failed.
    """
    root = project_root()
    image = image_file(args.image)
    if image.stem not in SUITES:
        raise HubsmithError(f"there are no tests of this image, but of {', '.join(SUITES)}", where=image.stem)
    report = image.parent / REPORT
    chosen = any((root / one.partition("::")[0]).exists() for one in args.pytest)
    argv: list[str | Path] = [
        sys.executable, "-m", "pytest", "-p", "hubsmith.testing.report", "--image", args.image,
        *([] if args.all else ["-m", "not slow"]), *(args.pytest or ["--report", report]),
        *(() if chosen else SUITES[image.stem]),
    ]  # fmt: skip
    # In our process group: a Ctrl-C is for pytest, which ends its machines in order.
    child = spawn(argv, cwd=root, stdout=sys.stderr.fileno(), stderr=subprocess.STDOUT, own_group=False)
    while True:
        try:
            code = child.wait()
            break
        except KeyboardInterrupt:
            continue
    if args.pytest:
        return code
    if not report.is_file():
        raise HarnessFailed(f"the tests ended with exit code {code} and without a report")
    found = json.loads(report.read_text())
    print(json.dumps(found, indent=1) if args.json else summary(report, found))
    if found["green"]:
        return 0
    if found["at_fault"]["harness"] == found["counts"]["failed"] + found["counts"]["error"] > 0:
        raise HarnessFailed("the harness failed; the image was not judged", where=str(report))
    raise ImageFailed("the image is not proven", where=str(report))


def summary(report: Path, found: dict[str, object]) -> str:
    """The report in two lines."""
    counts = found["counts"]
    assert isinstance(counts, dict)
    said = ", ".join(f"{number} {name}" for name, number in counts.items() if number)
    return f"{'green' if found['green'] else 'red'}: {said} in {found['seconds']} s\n{report}"
