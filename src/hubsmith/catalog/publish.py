"""Publish a release: the same steps for every catalog, each of which may be interrupted and be done again."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from hubsmith.catalog.base import ACTIVE, HIDDEN, UPLOADING, Catalog, CatalogError, Entry, Sent, Wish
from hubsmith.errors import HubsmithError
from hubsmith.output import SUMS, checksums
from hubsmith.release.folder import Release, unproven
from hubsmith.release.verify import verify

Say = Callable[[str], None]
Sending = Callable[[int], AbstractContextManager[Sent]]


def wish_of(release: Release, disk_format: str) -> Wish:
    """What a release offers in one of its two formats.

    :raises HubsmithError: the release has no green report of the bytes that it holds.
    """
    if why := unproven(release.report, release.about.image_sha256):
        raise HubsmithError(
            f"not to be published: {why}", where=str(release.folder), mend=f"hubsmith test {release.about.image}"
        )
    file = {"qcow2": release.qcow2, "raw": release.raw}[disk_format]
    sha256 = checksums(release.folder).get(file.name, "")
    if disk_format == "qcow2" and sha256 != release.about.image_sha256:
        raise HubsmithError(f"not to be published: {SUMS} is of another disk than the one tested", where=str(file))
    return Wish(release.about, file, disk_format, sha256)


def publish(
    release: Release, catalog: Catalog, *, keys: Path, disk_format: str, visibility: str, say: Say, sending: Sending
) -> tuple[Entry, bool]:  # fmt: skip
    """Have a release in a catalog.

    :param keys: public keys of whoever may make releases.
    :param disk_format: `qcow2` or `raw`.
    :param visibility: who may use it, in Glance's words.
    :param sending: shows the progress of an upload of so many bytes.
    :returns: the entry, and whether anything had to be done.
    :raises HubsmithError: the release is not whole, not signed, or not proven.
    :raises CatalogError: the catalog refuses it.
    """
    wish = wish_of(release, disk_format)
    if done := _there(catalog.entries(), wish, visibility):
        return done, False
    say("checking the release")
    if wrong := [f"{one.what}: {one.why}" for one in verify(release.folder, keys) if one.why]:
        raise HubsmithError(f"not to be published: {'; '.join(wrong)}", where=str(release.folder))
    entry = catalog.begin(wish)
    if entry.state == UPLOADING and not entry.size:
        say(f"uploading to {catalog.place}")
        with sending(wish.file.stat().st_size) as sent:
            catalog.send(entry, wish, sent)
    say("comparing checksums")
    catalog.check(entry, wish)
    say(f"offering it ({visibility})")
    return catalog.offer(entry, wish, visibility), True


def _there(entries: list[Entry], wish: Wish, visibility: str) -> Entry | None:
    about = wish.about
    for one in entries:
        if (one.image, one.version) != (about.image, about.version) or one.state == UPLOADING:
            continue
        if one.sha256 != wish.sha256 and one.disk_format == wish.disk_format:
            raise CatalogError(
                f"another image was published as {one.name}",
                where=one.id,
                mend="hubsmith release IMAGE --version ANOTHER",
            )  # fmt: skip
        if (one.sha256, one.visibility) == (wish.sha256, visibility):
            return one
    return None


def retire(catalog: Catalog, entry: Entry, *, delete: bool) -> str:
    """Hide an entry, or delete it.

    :returns: what was done.
    :raises CatalogError: it is in use.
    """
    if not delete:
        if entry.state == HIDDEN:
            return "is hidden already"
        catalog.hide(entry)
        return "hidden"
    if users := catalog.users(entry):
        raise CatalogError(
            f"in use by {', '.join(sorted(users)[:5])}{' and others' if len(users) > 5 else ''}", where=entry.name,
            mend="hubsmith catalog retire NAME   # hides it",
        )  # fmt: skip
    catalog.delete(entry)
    return "deleted"


def prune(catalog: Catalog, image: str, keep: int, say: Say) -> None:
    """Keep the newest of an image on offer, hide as many older ones, delete those before them that nobody uses."""
    complete = [one for one in catalog.entries() if one.image == image and one.state != UPLOADING]
    newest = sorted(complete, key=lambda one: (one.made, one.version), reverse=True)
    for one in newest[keep : 2 * keep]:
        if one.state == ACTIVE:
            catalog.hide(one)
            say(f"{one.name}: hidden")
    for one in newest[2 * keep :]:
        if users := catalog.users(one):
            say(f"{one.name}: stays, in use by {', '.join(sorted(users)[:5])}")
            if one.state == ACTIVE:
                catalog.hide(one)
        else:
            catalog.delete(one)
            say(f"{one.name}: deleted")
