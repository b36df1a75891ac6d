"""Packs: all inputs of an image in one file, for builds without network, or years later.

A pack is a plain tar with `locks/<name>.lock.json`, then `artifacts/<sha256>` sorted by checksum. Owners, modes and
times are fixed, so the same locks give the same bytes.
"""

from __future__ import annotations

import io
import logging
import re
import shutil
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from hubsmith import files
from hubsmith.archives.cache import Cache
from hubsmith.errors import FetchError
from hubsmith.fetch.run import Fetcher, Report, artifact_path
from hubsmith.lock.artifacts import artifacts_of
from hubsmith.lock.files import committed_path, dumps, load_matching, locate, refreshed_path, save
from hubsmith.lock.inputs import TOOLS, inputs_of, locks_of
from hubsmith.lock.models import Lock

log = logging.getLogger("hubsmith.fetch")

_LOCK = re.compile(r"locks/([a-z][a-z0-9-]*)\.lock\.json")
_ARTIFACT = re.compile(r"artifacts/([0-9a-f]{64})")


def pack(root: Path, image: str, target: Path, *, refreshed: bool = False) -> int:
    """Write the pack of an image. Missing artifacts are fetched first.

    :param root: project tree.
    :param image: name of the image.
    :param target: file to write.
    :param refreshed: prefer refreshed locks.
    :returns: size in bytes.
    :raises HubsmithError: see :func:`hubsmith.fetch.obtain.obtain`.
    """
    locks = {}
    for name in locks_of(root, image):
        locks[name] = load_matching(locate(root, name, refreshed=refreshed).path, inputs_of(root, name))
    fetcher = Fetcher()
    fetcher.fetch(list(locks.values()))
    with files.replacing(target) as stream:
        _write(stream, locks, fetcher.cache)
    return target.stat().st_size


def _write(stream: IO[bytes], locks: Mapping[str, Lock], cache: Cache) -> None:
    epoch = max(lock.source_date_epoch for lock in locks.values())
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as tar:

        def add(name: str, size: int, content: IO[bytes]) -> None:
            member = tarfile.TarInfo(name)
            member.size, member.mtime, member.mode = size, epoch, 0o644
            tar.addfile(member, content)

        for name, lock in sorted(locks.items()):
            text = dumps(lock).encode()
            add(f"locks/{name}.lock.json", len(text), io.BytesIO(text))
        unique = {artifact.sha256: artifact for artifact in artifacts_of(locks.values())}
        for sha256, artifact in sorted(unique.items()):
            path = cache.path(sha256)
            if not cache.has(sha256, artifact.size):
                path = Path(artifact_path(artifact))
            if files.sha256(path) != sha256:
                raise FetchError("the file is damaged", where=str(path), hint=f"delete {path}, then hubsmith fetch")
            with path.open("rb") as content:
                add(f"artifacts/{sha256}", artifact.size, content)


def unpack(source: Path, root: Path, images: Sequence[str]) -> Report:
    """Add the contents of a pack to the cache and the store, without network.

    A lock in the pack that differs from the committed one is stored as a refreshed lock.

    :param source: the pack.
    :param root: project tree.
    :param images: images that the pack must contain; by default all in the pack.
    :raises FetchError: the pack cannot be read, is damaged, or lacks artifacts.
    """
    fetcher = Fetcher(offline=True)
    try:
        with tarfile.open(source, "r:") as tar:
            texts = _read(tar, fetcher.cache)
    except (OSError, tarfile.TarError) as error:
        raise FetchError(f"not a pack: {error}", where=str(source)) from None
    locks = []
    for name in [TOOLS, *(images or sorted(texts.keys() - {TOOLS}))]:
        inputs = inputs_of(root, name)
        if name not in texts:
            raise FetchError(f"the pack holds no lock of {name!r}", where=str(source))
        committed = committed_path(root, name)
        if committed.exists() and committed.read_text(encoding="utf-8") == texts[name]:
            refreshed_path(name).unlink(missing_ok=True)
            locks.append(load_matching(committed, inputs))
            continue
        log.warning("WARNING: %s: the pack was made from another lock than the committed one; use `--refreshed`", name)
        save(Lock.model_validate_json(texts[name]), refreshed_path(name))
        locks.append(load_matching(refreshed_path(name), inputs))
        fetcher.report.refreshed.append(name)
    return fetcher.fetch(locks)


def _read(tar: tarfile.TarFile, cache: Cache) -> dict[str, str]:
    """Read the locks' texts, and put every artifact into the cache."""
    texts = {}
    for member in tar:
        content = tar.extractfile(member)
        lock, artifact = _LOCK.fullmatch(member.name), _ARTIFACT.fullmatch(member.name)
        if content is None or not (lock or artifact):
            raise FetchError(f"a pack holds no {member.name!r}", where=str(tar.name))
        if lock:
            texts[lock[1]] = content.read().decode()
        elif artifact and not cache.has(artifact[1], member.size):
            with cache.part(artifact[1]) as part:
                if part is None:
                    continue
                part.truncate(0)
                shutil.copyfileobj(content, part)
                part.flush()
                if files.sha256(Path(part.name)) != artifact[1]:
                    part.truncate(0)
                    raise FetchError(f"{member.name} is damaged", where=str(tar.name))
                cache.complete_part(artifact[1], artifact[1])
    return texts
