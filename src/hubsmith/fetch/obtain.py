"""Fetch images by name, and refresh locks whose artifacts are gone from the archives."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from hubsmith.archives.artifacts import ArtifactsGone
from hubsmith.fetch.run import Fetcher, Report
from hubsmith.lock.artifacts import artifacts_of
from hubsmith.lock.files import committed_path, load_matching, locate, refreshed_path, save
from hubsmith.lock.inputs import TOOLS, Inputs, inputs_of, locks_of
from hubsmith.lock.models import Lock

log = logging.getLogger("hubsmith.fetch")


def obtain(root: Path, images: Sequence[str], fetcher: Fetcher, *, refresh_if_gone: bool = False) -> Report:
    """Fetch the toolchain and some images.

    :param root: project tree.
    :param images: names of images.
    :param fetcher: does the work and collects the report.
    :param refresh_if_gone: if artifacts of a committed lock are gone, solve again and use that lock, which is kept
        outside the tree (:func:`hubsmith.lock.locate` finds it). A committed lock that can be fetched is always used.
    :raises LockError: a lock is missing or does not match its definition.
    :raises ArtifactsGone: artifacts are gone, and ``refresh_if_gone`` is not set.
    :raises FetchError: an archive cannot be reached, or sends other bytes.
    """
    names = list(dict.fromkeys([TOOLS, *(name for image in images for name in locks_of(root, image))]))
    inputs = {name: inputs_of(root, name) for name in names}
    locks = {name: load_matching(committed_path(root, name), inputs[name]) for name in names}
    gone: list[str] = []
    try:
        fetcher.fetch(list(locks.values()))
    except ArtifactsGone as error:
        if not refresh_if_gone:
            raise _explained(error, inputs[TOOLS].suite) from None
        gone = [name for name in names if set(artifacts_of([locks[name]])) & set(error.gone)]
        for name in gone:
            locks[name] = _usable(root, inputs[name], fetcher) or _solved(inputs[name], error)
            log.warning(
                "WARNING: %s: %s; going on with the refreshed lock %s: the image will differ from the committed one "
                "(`hubsmith lock --upgrade` refreshes the committed lock)",
                name,
                error.what.splitlines()[0],
                refreshed_path(name),
            )
        fetcher.fetch(list(locks.values()))
        fetcher.report.refreshed = gone
    if refresh_if_gone:
        for name in set(names) - set(gone):
            refreshed_path(name).unlink(missing_ok=True)
    return fetcher.report


def _explained(error: ArtifactsGone, suite: str) -> ArtifactsGone:
    # Imported late, because it loads the archives' clients.
    from hubsmith.fetch.gone import explain

    return explain(error, suite)


def _usable(root: Path, inputs: Inputs, fetcher: Fetcher) -> Lock | None:
    """Return the refreshed lock of an earlier run if it can still be fetched."""
    choice = locate(root, inputs.name, refreshed=True)
    if not choice.refreshed:
        return None
    lock = load_matching(choice.path, inputs)
    try:
        fetcher.fetch([lock])
    except ArtifactsGone as error:
        log.warning("WARNING: %s: the refreshed lock is out of date too: %s", inputs.name, error.what)
        return None
    return lock


def _solved(inputs: Inputs, error: ArtifactsGone) -> Lock:
    """Create a refreshed lock."""
    from hubsmith.lock.solve import solve

    log.warning("WARNING: %s: %s", inputs.name, _explained(error, inputs.suite).what)
    lock = solve([inputs])[inputs.name]
    save(lock, refreshed_path(inputs.name))
    return lock
