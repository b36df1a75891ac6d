"""The catalog of an OpenStack cloud: Glance, by openstacksdk.

An image's number is made of what it is to hold, so that two runs, or one that was interrupted and the next one, mean
the same image, and nothing is ever there twice.
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

from hubsmith.catalog.base import ACTIVE, HIDDEN, UPLOADING, CatalogError, Entry, Sent, Wish

#: Of all numbers of images; any fixed UUID would do.
NUMBERS = uuid.UUID("6f0f9ad0-5d0c-4d53-9c1f-0e8f4d5f2f1b")
TAG = "hubsmith"
PATCH = "application/openstack-images-v2.1-json-patch"
#: Bytes that are read and sent at once: what an upload takes of memory.
BLOCK = 1 << 20
#: Seconds for an upload that has just ended, or whose client has just died, to be noticed by Glance.
SETTLES = 60
#: Images that may have been deleted before under numbers made of the same content.
NUMBERS_TRIED = 50
#: Of a property that is added by the last step: an image that has it is complete.
COMPLETE = "hubsmith_made"


class GlanceCatalog:
    """Images of a project.

    :param cloud: its name in ``clouds.yaml``.
    :raises CatalogError: there is no such cloud, or it does not let us in.
    """

    def __init__(self, cloud: str) -> None:
        self.cloud = cloud
        try:
            self.connection = openstack.connect(cloud=cloud, app_name="hubsmith")
            self.project = str(self.connection.current_project_id)
            self.image = self.connection.image
        except sdk_errors.ConfigException as error:
            raise CatalogError(
                f"no cloud {cloud!r}: {error}", mend="docs/operators/release.md says where clouds.yaml goes"
            ) from error
        except (auth_errors.ClientException, sdk_errors.SDKException, RequestException) as error:
            raise _refused("it does not let us in", cloud, error) from error

    @property
    def place(self) -> str:
        """The cloud's name."""
        return self.cloud

    def entries(self) -> list[Entry]:
        """All of the project that hubsmith made, hidden ones too, the oldest first."""
        found = [_entry(one) for hidden in ("false", "true") for one in self._list(hidden)]
        return sorted(found, key=lambda one: (one.made, one.version))

    def _list(self, hidden: str) -> Iterator[dict[str, Any]]:
        address: str | None = f"/images?tag={TAG}&owner={self.project}&visibility=all&os_hidden={hidden}"
        while address:
            page = self._ask("GET", address)
            yield from page["images"]
            address = page.get("next", "").removeprefix("/v2")

    def begin(self, wish: Wish) -> Entry:
        """The image of that content: a new one, or the one that an earlier run has begun."""
        about = wish.about
        for number in self._numbers(wish):
            if found := self._settled(number):
                if found["status"] in ("queued", "active"):
                    return _entry(found)
                self._ask("DELETE", f"/images/{number}")  # killed, or half deleted
                continue
            body = {
                "id": number, "name": name_of(wish), "disk_format": wish.disk_format, "container_format": "bare",
                "visibility": "private", "tags": [TAG], "hubsmith_image": about.image,
                "hubsmith_version": about.version, "hubsmith_sha256": wish.sha256,
            }  # fmt: skip
            if made := self._ask("POST", "/images", json=body, but={409}):
                return _entry(made)
            # An image of this number was there and was deleted: Glance never gives a number twice.
        raise CatalogError(f"this release was published and deleted {NUMBERS_TRIED} times already", where=self.cloud)

    def _numbers(self, wish: Wish) -> Iterator[str]:
        about = wish.about
        for attempt in range(NUMBERS_TRIED):
            content = (self.project, about.image, about.version, wish.disk_format, wish.sha256, str(attempt))
            yield str(uuid.uuid5(NUMBERS, "/".join(content)))

    def _settled(self, number: str) -> dict[str, Any]:
        """An image that nobody is uploading; empty when there is none."""
        deadline = time.monotonic() + SETTLES
        while True:
            found = self._ask("GET", f"/images/{number}", but={404})
            if not found or found["status"] not in ("saving", "importing", "uploading"):
                return found
            if time.monotonic() > deadline:
                raise CatalogError(
                    "somebody else is uploading it, or the cloud has not noticed that nobody is any more",
                    where=f"{self.cloud}: image {number}", mend=f"hubsmith catalog retire {number} --delete",
                )  # fmt: skip
            time.sleep(2)

    def send(self, entry: Entry, wish: Wish, sent: Sent) -> None:
        """Send the disk, block by block, and wait until the image is active."""
        with wish.file.open("rb") as source:
            self._ask(
                "PUT", f"/images/{entry.id}/file", data=Counted(source, wish.file, sent),
                headers={"Content-Type": "application/octet-stream"},
            )  # fmt: skip
        found = self._settled(entry.id)
        if found.get("status") != "active":
            raise CatalogError(
                f"the cloud did not take it: the image is {found.get('status', 'gone')}", where=self._where(entry),
                mend="run it again",
            )  # fmt: skip

    def check(self, entry: Entry, wish: Wish) -> None:
        """Compare the size and the cloud's own hash of what it has; an image with other content is deleted."""
        found = self._ask("GET", f"/images/{entry.id}")
        algorithm, told = str(found.get("os_hash_algo")), found.get("os_hash_value")
        if not told or algorithm not in hashlib.algorithms_available:
            raise CatalogError("the cloud does not say what hash its image has", where=self._where(entry))
        with wish.file.open("rb") as source:
            ours = hashlib.file_digest(source, algorithm).hexdigest()
        size = wish.file.stat().st_size
        if (found["size"], told) != (size, ours):
            self._ask("DELETE", f"/images/{entry.id}")
            raise CatalogError(
                f"the cloud has other bytes than were sent ({found['size']} of {size} bytes, {algorithm} {told[:12]}… "
                f"and not {ours[:12]}…); its image is deleted",
                where=self._where(entry), mend="run it again",
            )  # fmt: skip

    def offer(self, entry: Entry, wish: Wish, visibility: str) -> Entry:
        """Properties, least hardware and visibility, in one request."""
        about = wish.about
        values: dict[str, Any] = {
            "name": name_of(wish), "min_disk": about.min_disk_gb, "min_ram": about.min_ram_mb, "os_hidden": False,
            **wish.properties, "visibility": visibility,
        }  # fmt: skip
        found = self._ask("GET", f"/images/{entry.id}")
        changes = [
            {"op": "replace" if key in found else "add", "path": f"/{key}", "value": value}
            for key, value in values.items()
            if found.get(key) != value
        ]
        return _entry(self._patch(entry, changes) if changes else found)

    def hide(self, entry: Entry) -> None:
        """Glance's `os_hidden`."""
        self._patch(entry, [{"op": "replace", "path": "/os_hidden", "value": True}])

    def users(self, entry: Entry) -> list[str]:
        """Servers and volumes of this project; those of other projects cannot be seen."""
        found = []
        for service, address, key in (
            ("compute", f"/servers?image={entry.id}", "servers"), ("block-storage", "/volumes/detail", "volumes"),
        ):  # fmt: skip
            if not self.connection.has_service(service):
                continue  # not every cloud has both
            try:
                answer = getattr(self.connection, service.replace("-", "_")).get(address)
                sdk_errors.raise_from_response(answer)
            except (auth_errors.ClientException, sdk_errors.SDKException, RequestException) as error:
                raise _refused(f"its {key} cannot be listed", self._where(entry), error) from error
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
        """One request; nothing for a status of ``but`` and for answers without content."""
        try:
            answer = self.image.request(address, method, raise_exc=False, **more)
            if answer.status_code in (but or ()):
                return {}
            sdk_errors.raise_from_response(answer)
        except (auth_errors.ClientException, sdk_errors.SDKException, RequestException) as error:
            raise _refused(f"{method} of {address.partition('?')[0]} failed", self.cloud, error) from error
        return dict(answer.json()) if answer.content else {}


class Counted:
    """A file that is sent block by block, and whose progress is told."""

    def __init__(self, source: IO[bytes], path: Path, sent: Callable[[int], None]) -> None:
        self.source, self.sent = source, sent
        self.len = path.stat().st_size  # for the header Content-Length

    def read(self, size: int = -1) -> bytes:
        """The next block."""
        block = self.source.read(BLOCK if size < 0 else max(size, BLOCK))
        self.sent(len(block))
        return block


def name_of(wish: Wish) -> str:
    """What people see in lists."""
    return f"hubsmith-{wish.about.image}-{wish.about.version}"


def _entry(image: Mapping[str, Any]) -> Entry:
    complete = image["status"] == "active" and COMPLETE in image
    state = (HIDDEN if image.get("os_hidden") else ACTIVE) if complete else UPLOADING
    return Entry(
        id=image["id"], image=image.get("hubsmith_image", ""), version=image.get("hubsmith_version", ""), state=state,
        visibility=image["visibility"], disk_format=image["disk_format"] or "", size=image["size"] or 0,
        sha256=image.get("hubsmith_sha256", ""), made=image.get(COMPLETE, ""),
    )  # fmt: skip


def _refused(what: str, where: str, error: Exception) -> CatalogError:
    """The cloud's own words, and what may be done."""
    status = getattr(error, "http_status", None) or getattr(error, "status_code", None)
    mends = {
        401: "new application credentials in clouds.yaml (they may have expired)",
        403: "ask the cloud's staff, or choose another --visibility",
        413: "hubsmith catalog retire NAME --delete   # or ask for a larger quota",
    }
    told = getattr(error, "details", None) or str(error) or type(error).__name__
    return CatalogError(f"{what}: {told}", where=where, mend=mends.get(int(status or 0), "run it again"))
