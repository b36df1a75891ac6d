"""The catalog in a folder on this computer."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pydantic import TypeAdapter

from hubsmith import files
from hubsmith.catalog.base import ACTIVE, HIDDEN, UPLOADING, CatalogError, Entry, Sent, Upload
from hubsmith.paths import state_dir

ENTRY = "entry.json"
_ENTRY = TypeAdapter(Entry)


class LocalCatalog:
    """Catalog with one folder per entry, which contains the disk and `entry.json` with its state.

    :param folder: folder of the catalog, created if necessary.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or state_dir() / "catalog"

    @property
    def location(self) -> str:
        """Path of the folder."""
        return str(self.folder)

    def entries(self) -> list[Entry]:
        """Return all images, oldest first."""
        return sorted(self._entries(), key=lambda one: (one.made, one.version))

    def _entries(self) -> Iterator[Entry]:
        for file in self.folder.glob(f"*/{ENTRY}"):
            yield _ENTRY.validate_json(file.read_text(encoding="utf-8"))

    def disk(self, entry: Entry) -> Path:
        """Return the disk file of an entry."""
        return self.folder / entry.id / f"{entry.image}.{entry.disk_format}"

    def begin(self, upload: Upload) -> Entry:
        """Create the folder of an incomplete entry, or return the existing entry."""
        about = upload.about
        entry_id = f"{about.image}-{about.version}-{upload.disk_format}"
        entry = Entry(
            entry_id, about.image, about.version, UPLOADING, "private", upload.disk_format, 0, upload.sha256, about.made
        )
        known = self.folder / entry_id / ENTRY
        if known.is_file() and _ENTRY.validate_json(known.read_text(encoding="utf-8")).state != UPLOADING:
            return _ENTRY.validate_json(known.read_text(encoding="utf-8"))
        self._write(entry)
        return entry

    def send(self, entry: Entry, upload: Upload, sent: Sent) -> None:
        """Copy the disk."""
        with upload.file.open("rb") as source, files.replacing(self.disk(entry), durable=True) as target:
            while block := source.read(1 << 20):
                target.write(block)
                sent(len(block))

    def check(self, entry: Entry, upload: Upload) -> None:
        """Verify the checksum of the copy."""
        if (found := files.sha256(self.disk(entry))) != upload.sha256:
            raise CatalogError(f"the copy has another checksum ({found[:12]}…)", where=str(self.disk(entry)))

    def offer(self, entry: Entry, upload: Upload, visibility: str) -> Entry:
        """Mark the entry as active."""
        done = replace(entry, state=ACTIVE, visibility=visibility, size=self.disk(entry).stat().st_size)
        self._write(done)
        return done

    def hide(self, entry: Entry) -> None:
        """Mark the entry as hidden."""
        self._write(replace(entry, state=HIDDEN))

    def users(self, entry: Entry) -> list[str]:
        """Return the deployments on this computer whose machines use this image."""
        pinned = (state_dir() / "deployments").glob(f"*/{entry.sha256}.qcow2")
        return [f"deployment {path.parent.name}" for path in pinned]

    def delete(self, entry: Entry) -> None:
        """Delete the folder, with `entry.json` first."""
        (self.folder / entry.id / ENTRY).unlink(missing_ok=True)
        shutil.rmtree(self.folder / entry.id)

    def _write(self, entry: Entry) -> None:
        files.write(self.folder / entry.id / ENTRY, files.canonical(entry.row()), durable=True)
