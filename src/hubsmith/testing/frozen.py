"""Frozen machines that outlive a run: a machine whose inputs are the same is thawed instead of booted again.

An entry is a folder below ``~/.cache/hubsmith/frozen``, named by a checksum of all that made the machine: image, QEMU
and accelerator, hardware, metadata, SSH key, and all code that brought it to where it was frozen. When all together are
larger than :data:`LIMIT`, the least recently used ones are removed. An entry in use stays.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from hubsmith import files
from hubsmith.paths import cache_dir, project_root
from hubsmith.testing.sources import Tree
from hubsmith.vm import disks
from hubsmith.vm.accel import qemu_version
from hubsmith.vm.command import CONSOLE_LOG, DISK, Attachments
from hubsmith.vm.hardware import Hardware, Volume
from hubsmith.vm.linux import Machine
from hubsmith.vm.machine import Snapshot
from hubsmith.vm.metadata import Instance
from hubsmith.vm.testbed import Testbed, ssh_key

#: Bytes; a frozen machine takes about 1 GB, nearly all of it memory.
LIMIT = 8 * 10**9
#: Seconds. A machine that slept for days would wake up to everything that its timers missed.
MOST_AGE = 12 * 3600
#: Version of what an entry holds.
LAYOUT = 2
#: The image, beside the disk that lies over it.
IMAGE = "image"
_ABOUT, _LOCK = "snapshot.json", "lock"


class FrozenMachines:
    """The cache; a context manager, since entries in use are locked.

    :param folder: where it is.
    :param limit: bytes of all entries together.
    :param fresh: use no entry of an earlier run; replace it.
    """

    def __init__(self, folder: Path | None = None, limit: int = LIMIT, *, fresh: bool = False) -> None:
        self.folder = folder or cache_dir() / "frozen"
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.limit = limit
        self.fresh = fresh
        self._held: list[int] = []

    def __enter__(self) -> FrozenMachines:
        return self

    def __exit__(self, *_: object) -> None:
        for lock in self._held:
            os.close(lock)
        self._held.clear()

    def share_key(self, testbed: Testbed) -> None:
        """Give a testbed the SSH key that all cached machines know; before its first machine is made."""
        key = ssh_key(self.folder)
        for file in (key, key.with_suffix(".pub")):
            shutil.copy(file, testbed.folder / file.name)

    def machine(
        self, testbed: Testbed, name: str, image: Path, hardware: Hardware, instance: Instance,
        ready: Callable[[Machine], None],
    ) -> Snapshot:  # fmt: skip
        """A machine that was started and brought to some state, frozen.

        :param name: of the machine, and of what it is frozen as.
        :param ready: waits for the started machine; its code is part of the key.
        """
        machine = Machine(testbed, name, image, hardware, instance=instance)
        key = files.canonical_sha256({
            "layout": LAYOUT, "name": name, "image": files.sha256(image),
            "qemu": [qemu_version(), *machine.accelerator.arguments],
            "hardware": dataclasses.asdict(hardware), "instance": dataclasses.asdict(machine.instance),
            "code": _code(ready),
        })  # fmt: skip
        if not self.fresh and (found := self.load(key, image)) is not None:
            machine.discard()
            return found
        machine.start()
        ready(machine)
        snapshot = machine.snapshot(f"{name}-{key[:8]}", resume=False)
        # What it said until then is a part of what tests look at.
        shutil.copyfile(machine.folder / CONSOLE_LOG, snapshot.folder / CONSOLE_LOG)
        return self.store(key, snapshot)

    def load(self, key: str, image: Path) -> Snapshot | None:
        """An entry, locked until this object is left.

        :param image: the same bytes as those under which it was stored, wherever they are now.
        """
        folder = self.folder / key
        if not self._hold(folder):
            return None
        about = json.loads((folder / _ABOUT).read_text())
        if time.time() - about["frozen"] > MOST_AGE:
            os.close(self._held.pop())
            return None
        _link(folder / IMAGE, image)
        return Snapshot(
            folder, about["origin"], image.resolve(), _hardware(about["hardware"]), _attachments(about["attachments"]),
            tuple(about["files"]),
        )  # fmt: skip

    def store(self, key: str, snapshot: Snapshot) -> Snapshot:
        """Move a snapshot into the cache, in the place of an older entry; returns it as it is there.

        An entry that another run uses stays, and so does the snapshot where it is.
        """
        folder = self.folder / key
        if folder.exists() and not self._remove(folder):
            return snapshot
        partial = self.folder / f".{key}.{os.getpid()}"
        shutil.rmtree(partial, ignore_errors=True)
        shutil.move(snapshot.folder, partial)
        _link(partial / IMAGE, snapshot.image)
        disks.rebase(partial / DISK, IMAGE)
        about = {
            "origin": snapshot.origin, "hardware": dataclasses.asdict(snapshot.hardware), "files": snapshot.files,
            "attachments": dataclasses.asdict(snapshot.attachments), "frozen": time.time(),
        }  # fmt: skip
        files.write(partial / _ABOUT, files.canonical(about), mode=0o600)
        (partial / _LOCK).touch()
        try:
            partial.rename(folder)
        except OSError:
            if not folder.exists():
                raise
            # Another run was faster. This one's machine is as good, and stays its own.
            shutil.move(partial, snapshot.folder)
            return snapshot
        self._hold(folder)
        self._evict()
        return dataclasses.replace(snapshot, folder=folder)

    def _hold(self, folder: Path) -> bool:
        """Lock an entry for reading; it may be gone meanwhile."""
        with contextlib.suppress(FileNotFoundError, BlockingIOError):
            lock = os.open(folder / _LOCK, os.O_RDONLY | os.O_CLOEXEC)
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            if (folder / _ABOUT).exists():
                self._held.append(lock)
                return True
            os.close(lock)
        return False

    def _remove(self, folder: Path) -> bool:
        """Remove an entry unless it is in use."""
        with contextlib.suppress(FileNotFoundError, BlockingIOError), (folder / _LOCK).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder)
            return True
        return False

    def _evict(self) -> None:
        """Remove what a killed run left half made, and the least recently used entries over the limit."""
        for partial in self.folder.glob(".*"):
            if partial.is_dir() and time.time() - partial.stat().st_mtime > 600:
                shutil.rmtree(partial, ignore_errors=True)
        sizes = {folder: _size(folder) for folder in self._entries()}
        for folder in sorted(sizes, key=lambda one: one.stat().st_mtime):
            if sum(sizes.values()) <= self.limit:
                return
            if self._remove(folder):
                del sizes[folder]

    def _entries(self) -> Iterator[Path]:
        return (path for path in self.folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _code(function: Callable[..., Any]) -> dict[str, str]:
    """The files of the project that a function depends on, and this one does, with their fingerprints."""
    root = project_root()
    tree = Tree(root)
    closure = tree.closure([Path(__file__), Path(function.__code__.co_filename)])
    return {path.relative_to(root).as_posix(): tree.fingerprint(path) for path in sorted(closure)}


def _link(link: Path, image: Path) -> None:
    partial = link.with_name(f"{link.name}.{os.getpid()}")
    partial.unlink(missing_ok=True)
    partial.symlink_to(image.resolve())
    partial.replace(link)


def _size(folder: Path) -> int:
    """Bytes on the disk."""
    return sum(path.lstat().st_blocks * 512 for path in folder.iterdir())


def _attachments(found: Mapping[str, Any]) -> Attachments:
    return Attachments(**{**found, "drives": tuple(found["drives"])})


def _hardware(found: Mapping[str, Any]) -> Hardware:
    forwards = {int(guest): host for guest, host in found["forwards"].items()}
    volumes = tuple(Volume(**one) for one in found["volumes"])
    lists = {name: tuple(found[name]) for name in ("lans", "extra")}
    return Hardware(**{**found, **lists, "forwards": forwards, "volumes": volumes})
