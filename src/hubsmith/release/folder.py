"""What is in a release's folder."""

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
#: What a version may look like: it becomes a part of file names, of image names and of properties in clouds.
VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+~_-]{0,63}")


class About(BaseModel):
    """``release.json``.

    :ivar source: the commit of the tree, with ``+changes`` when it was not clean; empty when the tree is no checkout.
    :ivar made: when, in UTC (ISO 8601).
    :ivar previous: the version of the release that the notes compare with.
    :ivar manifest_sha256: of the manifest's canonical text.
    :ivar image_sha256: of the qcow2, which is what was tested.
    :ivar openstack: the properties of the image in a cloud, by the modules' definitions.
    :ivar min_disk_gb: of the disk (GiB) that a machine needs, as clouds count.
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
    """One folder."""

    folder: Path
    about: About

    @classmethod
    def load(cls, folder: Path) -> Release:
        """Read a folder; what it says is not proven (:func:`hubsmith.release.verify.verify` does that).

        :raises HubsmithError: it is no release.
        """
        file = folder / ABOUT
        if not file.is_file():
            raise HubsmithError(f"no release: there is no {ABOUT}", where=str(folder), mend="hubsmith release IMAGE")
        try:
            return cls(folder, About.model_validate_json(file.read_text(encoding="utf-8")))
        except (ValidationError, UnicodeDecodeError) as error:
            raise HubsmithError(f"not a release that this version knows: {error}", where=str(file)) from error

    @property
    def qcow2(self) -> Path:
        """The disk as it was tested."""
        return self.folder / f"{self.about.image}.qcow2"

    @property
    def raw(self) -> Path:
        """The same disk as plain bytes."""
        return self.folder / f"{self.about.image}.raw"

    @property
    def report(self) -> dict[str, Any]:
        """What the tests said; empty when that is not there."""
        return table(self.folder / REPORT)

    @property
    def manifest(self) -> dict[str, Any]:
        """What the image was built from; empty when that is not there."""
        return table(self.folder / MANIFEST)


def table(file: Path) -> dict[str, Any]:
    """A JSON file that somebody else may have damaged; empty when it is missing or holds no object."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def unproven(report: dict[str, Any], sha256: str) -> str:
    """Why a report does not prove the bytes of that checksum; empty when it does."""
    if not report:
        return "there is no report of its tests"
    if report.get("sha256") != sha256:
        return f"the report is of other bytes ({str(report.get('sha256'))[:12]}…, not {sha256[:12]}…)"
    if report.get("green") is not True:
        return "the report is not green"
    return ""


def releases(place: Path, image: str | None = None) -> list[Release]:
    """The releases in a folder, the oldest first; those of one image, or all.

    :raises HubsmithError: one of them cannot be read.
    """
    found = [Release.load(file.parent) for file in place.glob(f"*/{ABOUT}") if not file.parent.name.startswith(".")]
    chosen = [one for one in found if image in (None, one.about.image)]
    return sorted(chosen, key=lambda one: (one.about.made, one.about.version))


def check_version(version: str) -> str:
    """The version itself.

    :raises HubsmithError: it cannot be one.
    """
    if not VERSION.fullmatch(version):
        raise HubsmithError(
            f"{version!r} cannot be a version: up to 64 letters, digits and '.+~_-', beginning with a letter or a digit"
        )
    return version


def find(place: Path, name: str) -> Release:
    """A release by its folder, or by the name of one in ``place`` (`master-2026.11.23`).

    :raises HubsmithError: there is none.
    """
    if (Path(name) / ABOUT).is_file() or not (place / name / ABOUT).is_file():
        if Path(name).is_dir():
            return Release.load(Path(name))
        known = [one.folder.name for one in releases(place)]
        raise HubsmithError(f"no release {name!r}; {nearest(name, known)}", mend="hubsmith release IMAGE")
    return Release.load(place / name)
