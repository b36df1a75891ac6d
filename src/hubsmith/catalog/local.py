"""The catalog that is always there: a folder on this computer."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pydantic import TypeAdapter

from hubsmith import files
from hubsmith.catalog.base import ACTIVE, HIDDEN, UPLOADING, CatalogError, Entry, Sent, Wish
from hubsmith.paths import state_dir

ENTRY = "entry.json"
_ENTRY = TypeAdapter(Entry)


class LocalCatalog:
    """A folder for each entry: the disk and what is said of it. An entry is complete when it says so.

    :param folder: made when it is not there.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or state_dir() / "catalog"

    @property
    def place(self) -> str:
        """The folder."""
        return str(self.folder)

    def entries(self) -> list[Entry]:
        """All, the oldest first."""
        return sorted(self._entries(), key=lambda one: (one.made, one.version))

    def _entries(self) -> Iterator[Entry]:
        for file in self.folder.glob(f"*/{ENTRY}"):
            yield _ENTRY.validate_json(file.read_text(encoding="utf-8"))

    def disk(self, entry: Entry) -> Path:
        """The file of an entry."""
        return self.folder / entry.id / f"{entry.image}.{entry.disk_format}"

    def begin(self, wish: Wish) -> Entry:
        """The folder of an entry that is not complete."""
        about = wish.about
        number = f"{about.image}-{about.version}-{wish.disk_format}"
        entry = Entry(
            number, about.image, about.version, UPLOADING, "private", wish.disk_format, 0, wish.sha256, about.made
        )
        known = self.folder / number / ENTRY
        if known.is_file() and _ENTRY.validate_json(known.read_text(encoding="utf-8")).state != UPLOADING:
            return _ENTRY.validate_json(known.read_text(encoding="utf-8"))
        self._write(entry)
        return entry

    def send(self, entry: Entry, wish: Wish, sent: Sent) -> None:
        """Copy the disk."""
        with wish.file.open("rb") as source, files.replacing(self.disk(entry), durable=True) as target:
            while block := source.read(1 << 20):
                target.write(block)
                sent(len(block))

    def check(self, entry: Entry, wish: Wish) -> None:
        """Read the copy."""
        if (found := files.sha256(self.disk(entry))) != wish.sha256:
            raise CatalogError(f"the copy has another checksum ({found[:12]}…)", where=str(self.disk(entry)))

    def offer(self, entry: Entry, wish: Wish, visibility: str) -> Entry:
        """Say that it is complete."""
        done = replace(entry, state=ACTIVE, visibility=visibility, size=self.disk(entry).stat().st_size)
        self._write(done)
        return done

    def hide(self, entry: Entry) -> None:
        """Say that it is hidden."""
        self._write(replace(entry, state=HIDDEN))

    def users(self, entry: Entry) -> list[str]:
        """Deployments of this computer whose machines stand on these bytes."""
        pinned = (state_dir() / "deployments").glob(f"*/{entry.sha256}.qcow2")
        return [f"deployment {path.parent.name}" for path in pinned]

    def delete(self, entry: Entry) -> None:
        """Delete the folder; first what says that it is an entry."""
        (self.folder / entry.id / ENTRY).unlink(missing_ok=True)
        shutil.rmtree(self.folder / entry.id)

    def _write(self, entry: Entry) -> None:
        files.write(self.folder / entry.id / ENTRY, files.canonical(entry.row()), durable=True)
