"""Verify that a release is complete, signed and tested."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hubsmith import files
from hubsmith.output import SUMS, checksums
from hubsmith.release import signature
from hubsmith.release.folder import Release, unproven
from hubsmith.run import CommandFailed, run


@dataclass(frozen=True)
class Finding:
    """Result of one check.

    :ivar what: what was checked.
    :ivar why: what is wrong; empty if nothing is.
    """

    what: str
    why: str = ""


def verify(folder: Path, keys: Path, report: Callable[[Finding], None] = lambda finding: None) -> list[Finding]:
    """Check everything and return all results.

    :param keys: file with trusted public keys.
    :param report: called with each result.
    :raises HubsmithError: the folder is not a release, or the file of keys is missing.
    """
    release, found = Release.load(folder), []
    for finding in _findings(release, keys):
        found.append(finding)
        report(finding)
    return found


def _findings(release: Release, keys: Path) -> Iterator[Finding]:
    folder, about = release.folder, release.about
    try:
        yield Finding(f"signed with {signature.check(folder / SUMS, keys)}")
    except signature.NotSigned as error:
        yield Finding("signature", error.what)
    known = checksums(folder)
    there = {path.name for path in folder.iterdir()} - {SUMS, f"{SUMS}.sig"}
    for name in sorted(known.keys() | there):
        if name not in known:
            yield Finding(name, f"not in {SUMS}")
        elif name not in there or not (folder / name).is_file():
            yield Finding(name, "missing")
        else:
            yield Finding(name, "" if files.sha256(folder / name) == known[name] else "another checksum")
    same = known.get(release.qcow2.name) == about.image_sha256
    yield Finding("the disk is the one that was released", "" if same else "it is another one")
    yield Finding("tests", unproven(release.report, about.image_sha256))
    same = files.canonical_sha256(release.manifest) == about.manifest_sha256
    yield Finding("the manifest is the one that was released", "" if same else "it is another one, or missing")
    yield Finding("the raw disk holds what the tested one does", _differs(release))


def _differs(release: Release) -> str:
    try:
        run(["qemu-img", "compare", "-f", "qcow2", "-F", "raw", release.qcow2, release.raw])
    except CommandFailed as error:
        return (error.stdout.strip() or error.stderr.strip()).splitlines()[0]
    return ""
