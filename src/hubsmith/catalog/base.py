"""What a catalog can do, wherever it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from hubsmith.errors import HubsmithError
from hubsmith.release.folder import About
from hubsmith.words import nearest

#: Gets how many bytes more have been sent; fewer when a transfer starts over.
Sent = Callable[[int], None]
#: Of an entry: not complete, offered, not listed any more.
UPLOADING, ACTIVE, HIDDEN = "uploading", "active", "hidden"


class CatalogError(HubsmithError):
    """A catalog refuses something, or does not hold what it should (exit code 9)."""

    exit_code = 9


@dataclass(frozen=True)
class Entry:
    """An image in a catalog.

    :ivar id: what the catalog calls it.
    :ivar state: `uploading` (not complete: nobody but its owner sees it), `active` or `hidden`.
    :ivar visibility: who may use it, in Glance's words.
    :ivar size: bytes; 0 while it is unknown.
    :ivar made: when its release was made (ISO 8601); what is newest is decided by it.
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
        """`master 2026.11.23`."""
        return f"{self.image} {self.version}"

    def row(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


@dataclass(frozen=True)
class Wish:
    """What is to be published.

    :ivar file: the disk, in ``disk_format`` (`qcow2` or `raw`).
    :ivar sha256: of the file.
    """

    about: About
    file: Path
    disk_format: str
    sha256: str

    @property
    def properties(self) -> dict[str, str]:
        """What a cloud's users and its scheduler are told."""
        return {
            **self.about.openstack, "hubsmith_image": self.about.image, "hubsmith_version": self.about.version,
            "hubsmith_made": self.about.made, "hubsmith_manifest_sha256": self.about.manifest_sha256,
            "hubsmith_sha256": self.sha256, "hubsmith_source": self.about.source or "unknown",
        }  # fmt: skip


class Catalog(Protocol):
    """A home of images. Every step may be interrupted, and be done again."""

    @property
    def place(self) -> str:
        """Where it is, for people."""

    def entries(self) -> list[Entry]:
        """All that hubsmith has put there and that is ours, complete or not."""

    def begin(self, wish: Wish) -> Entry:
        """An entry that nobody else sees: a new one, or that of an interrupted run."""

    def send(self, entry: Entry, wish: Wish, sent: Sent) -> None:
        """Its content; returns when the catalog has taken it."""

    def check(self, entry: Entry, wish: Wish) -> None:
        """Compare what the catalog says that it holds with the file.

        :raises CatalogError: it holds something else.
        """

    def offer(self, entry: Entry, wish: Wish, visibility: str) -> Entry:
        """Complete it for others, in one step.

        :raises CatalogError: the catalog does not allow it; the entry stays private.
        """

    def hide(self, entry: Entry) -> None:
        """Take it out of the lists; machines can still be made of it."""

    def users(self, entry: Entry) -> list[str]:
        """Names of what was made of it and needs it, as far as can be known here."""

    def delete(self, entry: Entry) -> None:
        """Delete it, once and for all."""


def chosen(entries: list[Entry], name: str) -> Entry:
    """An entry by its id, or as `IMAGE` (the newest one that is offered) or `IMAGE@VERSION`.

    :raises CatalogError: there is none.
    """
    image, _, version = name.partition("@")
    found = [
        one
        for one in entries
        if one.id == name or (one.image == image and (one.version == version or (not version and one.state == ACTIVE)))
    ]
    if not found:
        known: Mapping[str, None] = dict.fromkeys(f"{one.image}@{one.version}" for one in entries)
        raise CatalogError(f"no image {name!r} in the catalog; {nearest(name, known)}", mend="hubsmith catalog list")
    return max(found, key=lambda one: (one.made, one.version))
