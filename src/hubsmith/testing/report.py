"""The report of an image: what proves its very bytes. A release is refused without a green one."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hubsmith import files
from hubsmith.errors import HubsmithError
from hubsmith.testing.plugin import image_file
from hubsmith.vm.accel import qemu_version


def report(image: str, sha256: str, *, proofs: dict[str, dict[str, Any]], missing: dict[str, str]) -> dict[str, Any]:
    """A report: plain data.

    :param sha256: of the disk.
    :param proofs: the valid proofs by test.
    :param missing: tests without one, and what is known of them: ``not run``, ``skipped: why``, or who is at fault
        (``image``, ``harness``).
    """
    checks = {test: proof["checks"] for test, proof in proofs.items() if "checks" in proof}
    skipped = {f"{test}: {check}": why for test, found in checks.items() for check, why in found["skipped"].items()}
    faults = list(missing.values())
    return {
        "image": image,
        "sha256": sha256,
        "green": bool(proofs) and not missing,
        "counts": {
            "passed": len(proofs),
            "missing": len(missing),
            "checks": sum(found["passed"] for found in checks.values()),
            "checks_skipped": len(skipped),
        },
        "at_fault": {who: faults.count(who) for who in ("image", "harness")},
        "tools": tools(),
        "missing": missing,
        "skipped_checks": skipped,
        "tests": proofs,
    }


def write_report(path: Path, image: str, content: dict[str, Any]) -> None:
    """Write a report beside its image.

    The image is read once more: nothing may have changed it since.

    :raises HubsmithError: the disk is not what its build has put out.
    """
    disk = image_file(image)
    if files.sha256(disk) != content["sha256"]:
        raise HubsmithError("it is not what was built", where=str(disk), hint=f"hubsmith build {image}")
    files.write(path, files.canonical(content))


def tools() -> dict[str, str]:
    """The versions of what judged the image."""
    try:
        qemu = qemu_version()
    except HubsmithError as error:
        qemu = error.what
    packages = {name: version(name) for name in ("hubsmith", "pytest", "pytest-testinfra", "qemu.qmp")}
    return {"python": platform.python_version(), "qemu": qemu, **packages}
