"""Release notes: changes between the manifests of two releases."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from hubsmith.inspect.diff import Change, diff, things_of
from hubsmith.release.folder import About

#: Kinds of manifest entries that are packages.
PACKAGES = ("debian", "python", "npm")
#: Name of Debian's security archive in locks.
SECURITY = "debian-security"


def notes(
    about: About, manifest: Mapping[str, Any], before: Mapping[str, Any] | None, report: Mapping[str, Any]
) -> str:
    """Return the release notes as Markdown.

    :param about: metadata of the release.
    :param manifest: manifest of the release.
    :param before: manifest of the previous release, or None.
    :param report: test report.
    """
    counts = report.get("counts", {})
    lines = [
        f"# {about.image} {about.version}", "", about.summary + ".", "",
        f"- Made {about.made} of {about.source or 'a tree without a history'}.",
        f"- Manifest `{about.manifest_sha256}`.",
        f"- Disk (qcow2) `{about.image_sha256}`: {counts.get('passed', 0)} tests and"
        f" {counts.get('checks', 0)} checks inside machines passed, {counts.get('checks_skipped', 0)} were skipped.",
        f"- A machine needs {about.min_ram_mb} MB of memory and a disk of {about.min_disk_gb} GB.",
    ]  # fmt: skip
    if before is None:
        numbers = (f"{len(manifest.get('debian', ()))} packages of Debian", "the first release of this image")
        return "\n".join([*lines, "", "## Contents", "", f"{numbers[0]}; {numbers[1]}: `sbom.cdx.json` lists all.", ""])
    changes = diff(things_of(before), things_of(manifest))
    packages = [one for one in changes if one.thing.split(" ")[0] in PACKAGES and _is_package(one)]
    security = [one for one in packages if is_security(one)]
    rest = [one for one in packages if one not in security]
    sections = {
        "Security updates": security,
        "Updated": [one for one in rest if one.before and one.after],
        "Added": [one for one in rest if not one.before],
        "Removed": [one for one in rest if not one.after],
    }
    lines += ["", f"Compared with {about.previous}:"]
    for heading, chosen in sections.items():
        if chosen:
            lines += ["", f"## {heading}", "", *_lines(chosen)]
    modules = sorted(one.thing.partition(" ")[2] for one in changes if one.thing.startswith("module "))
    ports = [f"- `{one.text()}`" for one in changes if one.thing.startswith(("port ", "unit "))]
    if modules or ports:
        lines += ["", "## Configuration", ""]
        lines += [f"- Changed modules: {', '.join(modules)}."] if modules else []
        lines += ports
    if not changes:
        lines += ["", "Nothing has changed."]
    return "\n".join([*lines, ""])


def is_security(change: Change) -> bool:
    """Whether the new version of a package comes from Debian's security archive."""
    return change.after is not None and change.after.get("archive") == SECURITY


def _is_package(change: Change) -> bool:
    return any(side is not None and "version" in side for side in (change.before, change.after))


def _lines(changes: Iterable[Change]) -> list[str]:
    def version(side: Mapping[str, Any] | None) -> str:
        return str((side or {}).get("version", ""))

    found = []
    for one in changes:
        kind, _, name = one.thing.partition(" ")
        versions = " → ".join(text for text in (version(one.before), version(one.after)) if text)
        if version(one.before) == version(one.after):
            versions = f"{version(one.after)}, built again"
        found.append(f"- {name} {versions}" + ("" if kind == "debian" else f" ({kind})"))
    return found
