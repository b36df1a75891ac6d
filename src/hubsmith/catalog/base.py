"""Interface of catalogs, and the data they exchange."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from hubsmith.errors import HubsmithError
from hubsmith.release.folder import About
from hubsmith.words import nearest

#: Called with the number of bytes sent since the last call.
Sent = Callable[[int], None]
#: States of an entry: incomplete, offered, no longer listed.
UPLOADING, ACTIVE, HIDDEN = "uploading", "active", "hidden"


class CatalogError(HubsmithError):
    """A catalog rejected a request or holds wrong content (exit code 9)."""

    exit_code = 9


@dataclass(frozen=True)
class Entry:
    """An image in a catalog.

    :ivar id: ID in the catalog.
    :ivar state: `uploading` (incomplete, visible only to its owner), `active` or `hidden`.
    :ivar visibility: who may use the image, in Glance's terms.
    :ivar size: size in bytes; 0 if unknown.
    :ivar made: creation time of the release (ISO 8601), which determines the newest image.
    """

    id: str
    image: str
    version: str
    state: str
    visibility: str
    disk_format: str
    size: int
    sha256: str
    made: str

    @property
    def name(self) -> str:
        """Image and version, such as `master 2026.11.23`."""
        return f"{self.image} {self.version}"

    def row(self) -> dict[str, Any]:
        """Return the entry as plain data."""
        return asdict(self)


@dataclass(frozen=True)
class Upload:
    """One disk file of a release, to be published.

    :ivar file: the disk.
    :ivar disk_format: `qcow2` or `raw`.
    :ivar sha256: SHA-256 (hex) of the file.
    """

    about: About
    file: Path
    disk_format: str
    sha256: str

    @property
    def properties(self) -> dict[str, str]:
        """Image properties, for the cloud's users and its scheduler."""
        return {
            **self.about.openstack, "hubsmith_image": self.about.image, "hubsmith_version": self.about.version,
            "hubsmith_made": self.about.made, "hubsmith_manifest_sha256": self.about.manifest_sha256,
            "hubsmith_sha256": self.sha256, "hubsmith_source": self.about.source or "unknown",
        }  # fmt: skip


class Catalog(Protocol):
    """A catalog of images. Every step can be interrupted and repeated."""

    @property
    def location(self) -> str:
        """Human-readable location."""

    def entries(self) -> list[Entry]:
        """Return our own images, complete or not."""

    def begin(self, upload: Upload) -> Entry:
        """Create a private entry, or return the one that an interrupted run created."""

    def send(self, entry: Entry, upload: Upload, sent: Sent) -> None:
        """Send the disk and wait until the catalog has stored it."""

    def check(self, entry: Entry, upload: Upload) -> None:
        """Compare the stored content with the file.

        :raises CatalogError: the content differs.
        """

    def offer(self, entry: Entry, upload: Upload, visibility: str) -> Entry:
        """Make the image available to others, in one step.

        :raises CatalogError: the catalog rejected this. The entry stays private.
        """

    def hide(self, entry: Entry) -> None:
        """Remove the image from listings. Machines can still be created from it."""

    def users(self, entry: Entry) -> list[str]:
        """Return the names of known machines and volumes that need the image."""

    def delete(self, entry: Entry) -> None:
        """Delete the image."""


def chosen(entries: list[Entry], name: str) -> Entry:
    """Find an entry by ID, as `IMAGE` (the newest active one), or as `IMAGE@VERSION`.

    :raises CatalogError: no entry matches.
    """
    image, _, version = name.partition("@")
    found = [
        one
        for one in entries
        if one.id == name or (one.image == image and (one.version == version or (not version and one.state == ACTIVE)))
    ]
    if not found:
        known: Mapping[str, None] = dict.fromkeys(f"{one.image}@{one.version}" for one in entries)
        raise CatalogError(f"no image {name!r} in the catalog; {nearest(name, known)}", hint="hubsmith catalog list")
    return max(found, key=lambda one: (one.made, one.version))
