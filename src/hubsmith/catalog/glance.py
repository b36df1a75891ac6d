"""The catalog of an OpenStack cloud: Glance, accessed with openstacksdk.

An image's ID is derived from its content. So two runs, or an interrupted run and the next one, use the same image, and
no image is uploaded twice.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import openstack
from keystoneauth1 import exceptions as auth_errors
from openstack import exceptions as sdk_errors
from requests import RequestException

from hubsmith.catalog.base import ACTIVE, HIDDEN, UPLOADING, CatalogError, Entry, Sent, Upload

#: UUIDv5 namespace for image IDs. Any fixed UUID would do.
NAMESPACE = uuid.UUID("6f0f9ad0-5d0c-4d53-9c1f-0e8f4d5f2f1b")
TAG = "hubsmith"
PATCH = "application/openstack-images-v2.1-json-patch"
#: Bytes read and sent at a time, which limits the memory needed by an upload.
BLOCK = 1 << 20
#: Seconds until Glance notices that an upload has ended or that its client has died.
SETTLES = 60
#: How many IDs are tried. Each deleted image with the same content has used one up.
IDS_TRIED = 50
#: Name of a property that is set by the last step, and so marks complete images.
COMPLETE = "hubsmith_made"


class GlanceCatalog:
    """Images of one project in a cloud.

    :param cloud: name of the cloud in ``clouds.yaml``.
    :raises CatalogError: the cloud is unknown, or the login failed.
    """

    def __init__(self, cloud: str) -> None:
        self.cloud = cloud
        try:
            self.connection = openstack.connect(cloud=cloud, app_name="hubsmith")
            self.project = str(self.connection.current_project_id)
            self.image = self.connection.image
        except sdk_errors.ConfigException as error:
            raise CatalogError(
                f"no cloud {cloud!r}: {error}", hint="docs/operators/release.md says where clouds.yaml goes"
            ) from error
        except (auth_errors.ClientException, sdk_errors.SDKException, RequestException) as error:
            raise _refused("cannot log in", cloud, error) from error

    @property
    def location(self) -> str:
        """Name of the cloud."""
        return self.cloud

    def entries(self) -> list[Entry]:
        """Return the project's images made by hubsmith, including hidden ones, oldest first."""
        found = [_entry(one) for hidden in ("false", "true") for one in self._list(hidden)]
        return sorted(found, key=lambda one: (one.made, one.version))

    def _list(self, hidden: str) -> Iterator[dict[str, Any]]:
        address: str | None = f"/images?tag={TAG}&owner={self.project}&visibility=all&os_hidden={hidden}"
        while address:
            page = self._ask("GET", address)
            yield from page["images"]
            address = page.get("next", "").removeprefix("/v2")

    def begin(self, upload: Upload) -> Entry:
        """Create an image with the ID of that content, or return the one that an earlier run created."""
        about = upload.about
        for image_id in self._ids(upload):
            if found := self._settled(image_id):
                if found["status"] in ("queued", "active"):
                    return _entry(found)
                self._ask("DELETE", f"/images/{image_id}")  # killed or pending_delete
                continue
            body = {
                "id": image_id, "name": name_of(upload), "disk_format": upload.disk_format, "container_format": "bare",
                "visibility": "private", "tags": [TAG], "hubsmith_image": about.image,
                "hubsmith_version": about.version, "hubsmith_sha256": upload.sha256,
            }  # fmt: skip
            if made := self._ask("POST", "/images", json=body, but={409}):
                return _entry(made)
            # An image with this ID was deleted. Glance never uses an ID twice.
        raise CatalogError(f"this release was published and deleted {IDS_TRIED} times already", where=self.cloud)

    def _ids(self, upload: Upload) -> Iterator[str]:
        about = upload.about
        for attempt in range(IDS_TRIED):
            content = (self.project, about.image, about.version, upload.disk_format, upload.sha256, str(attempt))
            yield str(uuid.uuid5(NAMESPACE, "/".join(content)))

    def _settled(self, image_id: str) -> dict[str, Any]:
        """Return an image once no upload is in progress; empty if the image does not exist."""
        deadline = time.monotonic() + SETTLES
        while True:
            found = self._ask("GET", f"/images/{image_id}", but={404})
            if not found or found["status"] not in ("saving", "importing", "uploading"):
                return found
            if time.monotonic() > deadline:
                raise CatalogError(
                    "another upload is in progress, or the cloud has not noticed that it was interrupted",
                    where=f"{self.cloud}: image {image_id}", hint=f"hubsmith catalog retire {image_id} --delete",
                )  # fmt: skip
            time.sleep(2)

    def send(self, entry: Entry, upload: Upload, sent: Sent) -> None:
        """Send the disk in blocks and wait until the image is active."""
        with upload.file.open("rb") as source:
            self._ask(
                "PUT", f"/images/{entry.id}/file", data=Counted(source, upload.file, sent),
                headers={"Content-Type": "application/octet-stream"},
            )  # fmt: skip
        found = self._settled(entry.id)
        if found.get("status") != "active":
            raise CatalogError(
                f"the upload failed: the image is {found.get('status', 'gone')}", where=self._where(entry),
                hint="run it again",
            )  # fmt: skip

    def check(self, entry: Entry, upload: Upload) -> None:
        """Compare size and hash as computed by the cloud. An image with other content is deleted.

        The file is read again, and must still be the release's: someone may have replaced it before the upload.
        """
        found = self._ask("GET", f"/images/{entry.id}")
        algorithm, theirs = str(found.get("os_hash_algo")), found.get("os_hash_value")
        if not theirs or algorithm not in hashlib.algorithms_available:
            raise CatalogError("the cloud reports no usable hash of the image", where=self._where(entry))
        digest, released, size = hashlib.new(algorithm), hashlib.sha256(), 0
        with upload.file.open("rb") as source:
            while block := source.read(BLOCK):
                digest.update(block)
                released.update(block)
                size += len(block)
        if released.hexdigest() != upload.sha256:
            self._ask("DELETE", f"/images/{entry.id}")
            raise CatalogError(
                "the file was replaced during the upload; the image was deleted", where=str(upload.file),
                hint="hubsmith verify, then run it again",
            )  # fmt: skip
        ours = digest.hexdigest()
        if (found["size"], theirs) != (size, ours):
            self._ask("DELETE", f"/images/{entry.id}")
            raise CatalogError(
                f"the cloud stored other bytes than were sent ({found['size']} of {size} bytes, {algorithm} "
                f"{theirs[:12]}… instead of {ours[:12]}…); the image was deleted",
                where=self._where(entry), hint="run it again",
            )  # fmt: skip

    def offer(self, entry: Entry, upload: Upload, visibility: str) -> Entry:
        """Set properties, minimum hardware and visibility in one request."""
        about = upload.about
        values: dict[str, Any] = {
            "name": name_of(upload), "min_disk": about.min_disk_gb, "min_ram": about.min_ram_mb, "os_hidden": False,
            **upload.properties, "visibility": visibility,
        }  # fmt: skip
        found = self._ask("GET", f"/images/{entry.id}")
        changes = [
            {"op": "replace" if key in found else "add", "path": f"/{key}", "value": value}
            for key, value in values.items()
            if found.get(key) != value
        ]
        return _entry(self._patch(entry, changes) if changes else found)

    def hide(self, entry: Entry) -> None:
        """Set Glance's `os_hidden`."""
        self._patch(entry, [{"op": "replace", "path": "/os_hidden", "value": True}])

    def users(self, entry: Entry) -> list[str]:
        """Return this project's servers and volumes. Those of other projects are not visible."""
        found = []
        for service, address, key in (
            ("compute", f"/servers?image={entry.id}", "servers"), ("block-storage", "/volumes/detail", "volumes"),
        ):  # fmt: skip
            if not self.connection.has_service(service):
                continue  # not every cloud has both services
            try:
                answer = getattr(self.connection, service.replace("-", "_")).get(address)
                sdk_errors.raise_from_response(answer)
            except (auth_errors.ClientException, sdk_errors.SDKException, RequestException) as error:
                raise _refused(f"cannot list {key}", self._where(entry), error) from error
            for one in answer.json()[key]:
                if key == "servers" or one.get("volume_image_metadata", {}).get("image_id") == entry.id:
                    found.append(f"{key.removesuffix('s')} {one['name'] or one['id']}")
        return found

    def delete(self, entry: Entry) -> None:
        """Delete the image."""
        self._ask("DELETE", f"/images/{entry.id}")

    def _patch(self, entry: Entry, changes: list[dict[str, Any]]) -> dict[str, Any]:
        return self._ask("PATCH", f"/images/{entry.id}", json=changes, headers={"Content-Type": PATCH})

    def _where(self, entry: Entry) -> str:
        return f"{self.cloud}: image {entry.id}"

    def _ask(self, method: str, address: str, *, but: set[int] | None = None, **more: Any) -> dict[str, Any]:
        """Send one request. The result is empty for a status in ``but`` and for a response without content."""
        try:
            answer = self.image.request(address, method, raise_exc=False, **more)
            if answer.status_code in (but or ()):
                return {}
            sdk_errors.raise_from_response(answer)
        except (auth_errors.ClientException, sdk_errors.SDKException, RequestException) as error:
            raise _refused(f"{method} of {address.partition('?')[0]} failed", self.cloud, error) from error
        return dict(answer.json()) if answer.content else {}


class Counted:
    """File object for uploads that reports progress."""

    def __init__(self, source: IO[bytes], path: Path, sent: Callable[[int], None]) -> None:
        self.source, self.sent = source, sent
        self.len = path.stat().st_size  # requests makes the Content-Length header from it

    def read(self, size: int = -1) -> bytes:
        """Read the next block."""
        block = self.source.read(BLOCK if size < 0 else max(size, BLOCK))
        self.sent(len(block))
        return block


def name_of(upload: Upload) -> str:
    """Return the image's display name."""
    return f"hubsmith-{upload.about.image}-{upload.about.version}"


def _entry(image: Mapping[str, Any]) -> Entry:
    complete = image["status"] == "active" and COMPLETE in image
    state = (HIDDEN if image.get("os_hidden") else ACTIVE) if complete else UPLOADING
    return Entry(
        id=image["id"], image=image.get("hubsmith_image", ""), version=image.get("hubsmith_version", ""), state=state,
        visibility=image["visibility"], disk_format=image["disk_format"] or "", size=image["size"] or 0,
        sha256=image.get("hubsmith_sha256", ""), made=image.get(COMPLETE, ""),
    )  # fmt: skip


def _refused(what: str, where: str, error: Exception) -> CatalogError:
    """Return an error with the cloud's message and a hint."""
    status = getattr(error, "http_status", None) or getattr(error, "status_code", None)
    hints = {
        401: "new application credentials in clouds.yaml (they may have expired)",
        403: "ask the cloud's staff, or choose another --visibility",
        413: "hubsmith catalog retire NAME --delete   # or ask for a larger quota",
    }
    message = getattr(error, "details", None) or str(error) or type(error).__name__
    return CatalogError(f"{what}: {message}", where=where, hint=hints.get(int(status or 0), "run it again"))
