"""The folder of a release: its files and `release.json`."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from hubsmith.errors import HubsmithError
from hubsmith.words import nearest

ABOUT, MANIFEST, REPORT, NOTES = "release.json", "manifest.json", "test-report.json", "notes.md"
#: Syntax of a version, which becomes part of file names, image names and image properties.
VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+~_-]{0,63}")


class About(BaseModel):
    """Contents of ``release.json``.

    :ivar source: Git commit of the tree, with ``+changes`` if it was not clean; empty outside a checkout.
    :ivar made: creation time in UTC (ISO 8601).
    :ivar previous: version of the release that the notes compare with.
    :ivar manifest_sha256: SHA-256 of the manifest's canonical text.
    :ivar image_sha256: SHA-256 of the qcow2 file, which was tested.
    :ivar openstack: image properties in Glance, from the modules.
    :ivar min_disk_gb: minimum disk size in GiB.
    :ivar min_ram_mb: minimum memory in MiB.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    image: str
    version: str
    summary: str
    made: str
    source: str
    previous: str | None
    manifest_sha256: str
    image_sha256: str
    openstack: dict[str, str]
    min_disk_gb: int
    min_ram_mb: int


@dataclass(frozen=True)
class Release:
    """A release: its folder and its metadata."""

    folder: Path
    about: About

    @classmethod
    def load(cls, folder: Path) -> Release:
        """Read a release without verifying it (see :func:`hubsmith.release.verify.verify`).

        :raises HubsmithError: the folder is not a release.
        """
        file = folder / ABOUT
        if not file.is_file():
            raise HubsmithError(f"not a release: no {ABOUT}", where=str(folder), hint="hubsmith release IMAGE")
        try:
            return cls(folder, About.model_validate_json(file.read_text(encoding="utf-8")))
        except (ValidationError, UnicodeDecodeError) as error:
            raise HubsmithError(f"this version cannot read the release: {error}", where=str(file)) from error

    @property
    def qcow2(self) -> Path:
        """Path of the tested disk."""
        return self.folder / f"{self.about.image}.qcow2"

    @property
    def raw(self) -> Path:
        """Path of the same disk in raw format."""
        return self.folder / f"{self.about.image}.raw"

    @property
    def report(self) -> dict[str, Any]:
        """Test report; empty if missing."""
        return table(self.folder / REPORT)

    @property
    def manifest(self) -> dict[str, Any]:
        """Manifest of the image; empty if missing."""
        return table(self.folder / MANIFEST)


def table(file: Path) -> dict[str, Any]:
    """Read an untrusted JSON file; empty if it is missing or is not a JSON object."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def unproven(report: dict[str, Any], sha256: str) -> str:
    """Return why a report does not prove an image; empty if it does.

    :param sha256: SHA-256 of the image.
    """
    if not report:
        return "there is no test report"
    if report.get("sha256") != sha256:
        return f"the report is about other bytes ({str(report.get('sha256'))[:12]}…, not {sha256[:12]}…)"
    if report.get("green") is not True:
        return "the report is not green"
    return ""


def releases(place: Path, image: str | None = None) -> list[Release]:
    """Return the releases in a folder, oldest first.

    :param image: only releases of this image.
    :raises HubsmithError: a release cannot be read.
    """
    found = [Release.load(file.parent) for file in place.glob(f"*/{ABOUT}") if not file.parent.name.startswith(".")]
    chosen = [one for one in found if image in (None, one.about.image)]
    return sorted(chosen, key=lambda one: (one.about.made, one.about.version))


def check_version(version: str) -> str:
    """Return the version if it is valid.

    :raises HubsmithError: the version is invalid.
    """
    if not VERSION.fullmatch(version):
        raise HubsmithError(
            f"invalid version {version!r}: up to 64 letters, digits and '.+~_-', starting with a letter or a digit"
        )
    return version


def find(place: Path, name: str) -> Release:
    """Find a release by its folder, or by its name in ``place``, such as `master-2026.11.23`.

    :raises HubsmithError: there is no such release.
    """
    if (Path(name) / ABOUT).is_file() or not (place / name / ABOUT).is_file():
        if Path(name).is_dir():
            return Release.load(Path(name))
        known = [one.folder.name for one in releases(place)]
        raise HubsmithError(f"no release {name!r}; {nearest(name, known)}", hint="hubsmith release IMAGE")
    return Release.load(place / name)
