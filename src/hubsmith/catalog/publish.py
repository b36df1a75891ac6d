"""Publish a release, by the same steps for every catalog. Each step can be interrupted and repeated."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from hubsmith.catalog.base import ACTIVE, HIDDEN, UPLOADING, Catalog, CatalogError, Entry, Sent, Upload
from hubsmith.errors import HubsmithError
from hubsmith.output import SUMS, checksums
from hubsmith.release.folder import Release, unproven
from hubsmith.release.verify import verify

Progress = Callable[[str], None]
Sending = Callable[[int], AbstractContextManager[Sent]]


def upload_of(release: Release, disk_format: str) -> Upload:
    """Return one disk format of a release.

    :param disk_format: `qcow2` or `raw`.
    :raises HubsmithError: the release has no green report for its image.
    """
    if why := unproven(release.report, release.about.image_sha256):
        raise HubsmithError(
            f"cannot publish: {why}", where=str(release.folder), hint=f"hubsmith test {release.about.image}"
        )
    file = {"qcow2": release.qcow2, "raw": release.raw}[disk_format]
    sha256 = checksums(release.folder).get(file.name, "")
    if disk_format == "qcow2" and sha256 != release.about.image_sha256:
        raise HubsmithError(f"cannot publish: {SUMS} names another disk than the tested one", where=str(file))
    return Upload(release.about, file, disk_format, sha256)


def publish(
    release: Release, catalog: Catalog, *, keys: Path, disk_format: str, visibility: str, progress: Progress,
    sending: Sending,
) -> tuple[Entry, bool]:  # fmt: skip
    """Publish a release in a catalog, unless it is there already.

    :param keys: file with trusted public keys.
    :param disk_format: `qcow2` or `raw`.
    :param visibility: who may use the image, in Glance's terms.
    :param progress: called with one line per step.
    :param sending: context manager that shows the progress of an upload of so many bytes.
    :returns: the entry, and whether anything was done.
    :raises HubsmithError: the release is damaged, unsigned or untested.
    :raises CatalogError: the catalog rejected it.
    """
    upload = upload_of(release, disk_format)
    if done := _there(catalog.entries(), upload, visibility):
        return done, False
    progress("checking the release")
    if wrong := [f"{one.what}: {one.why}" for one in verify(release.folder, keys) if one.why]:
        raise HubsmithError(f"cannot publish: {'; '.join(wrong)}", where=str(release.folder))
    entry = catalog.begin(upload)
    if entry.state == UPLOADING and not entry.size:
        progress(f"uploading to {catalog.location}")
        with sending(upload.file.stat().st_size) as sent:
            catalog.send(entry, upload, sent)
    progress("comparing checksums")
    catalog.check(entry, upload)
    progress(f"offering it ({visibility})")
    return catalog.offer(entry, upload, visibility), True


def _there(entries: list[Entry], upload: Upload, visibility: str) -> Entry | None:
    about = upload.about
    for one in entries:
        if (one.image, one.version) != (about.image, about.version) or one.state == UPLOADING:
            continue
        if one.sha256 != upload.sha256 and one.disk_format == upload.disk_format:
            raise CatalogError(
                f"another image is already published as {one.name}",
                where=one.id,
                hint="hubsmith release IMAGE --version ANOTHER",
            )  # fmt: skip
        if (one.sha256, one.visibility) == (upload.sha256, visibility):
            return one
    return None


def retire(catalog: Catalog, entry: Entry, *, delete: bool) -> str:
    """Hide or delete an entry.

    :returns: what was done.
    :raises CatalogError: the image is in use.
    """
    if not delete:
        if entry.state == HIDDEN:
            return "is hidden already"
        catalog.hide(entry)
        return "hidden"
    if users := catalog.users(entry):
        raise CatalogError(
            f"in use by {', '.join(sorted(users)[:5])}{' and others' if len(users) > 5 else ''}", where=entry.name,
            hint="hubsmith catalog retire NAME   # hides it",
        )  # fmt: skip
    catalog.delete(entry)
    return "deleted"


def prune(catalog: Catalog, image: str, keep: int, progress: Progress) -> None:
    """Keep the newest ``keep`` versions of an image, hide as many older ones, and delete the rest unless in use."""
    complete = [one for one in catalog.entries() if one.image == image and one.state != UPLOADING]
    newest = sorted(complete, key=lambda one: (one.made, one.version), reverse=True)
    for one in newest[keep : 2 * keep]:
        if one.state == ACTIVE:
            catalog.hide(one)
            progress(f"{one.name}: hidden")
    for one in newest[2 * keep :]:
        if users := catalog.users(one):
            progress(f"{one.name}: not deleted, in use by {', '.join(sorted(users)[:5])}")
            if one.state == ACTIVE:
                catalog.hide(one)
        else:
            catalog.delete(one)
            progress(f"{one.name}: deleted")
