"""Explain why artifacts are gone from an archive: what superseded them, and when."""

from __future__ import annotations

import email.utils
import urllib.parse
from collections.abc import Sequence
from datetime import UTC, datetime

import requests
from debian.debian_support import Version

from hubsmith.archives.apt import apt_root
from hubsmith.archives.artifacts import Artifact, ArtifactsGone
from hubsmith.archives.download import TIMEOUT
from hubsmith.archives.sources import DebianSource
from hubsmith.errors import HubsmithError

_WHERE = {
    "pypi": "the index no longer has this file: the release was withdrawn, or another index is configured",
    "npm": "the registry no longer has this file: the version was unpublished, or another registry is configured",
}


def explain(error: ArtifactsGone, suite: str) -> ArtifactsGone:
    """Return the error with a reason for each artifact.

    :param suite: Debian suite in which to look for newer versions.
    """
    debian = [artifact for artifact in error.gone if artifact.kind.startswith("debian")]
    reasons = {artifact: _WHERE[artifact.kind] for artifact in error.gone if artifact.kind in _WHERE}
    if debian:
        try:
            reasons |= _successors(debian, suite)
        except HubsmithError as failed:
            reasons |= dict.fromkeys(debian, f"(its successor cannot be looked up: {failed.what})")
    return ArtifactsGone(error.gone, [f"{artifact}: {reasons[artifact]}" for artifact in error.gone], error.hint or "")


def _successors(gone: Sequence[Artifact], suite: str) -> dict[Artifact, str]:
    source = DebianSource(1)
    names = {artifact.name for artifact in gone}
    newest: dict[str, tuple[Version, str, str]] = {}
    with apt_root(suite) as apt:
        state = datetime.fromtimestamp(apt.date(), UTC).strftime("%Y-%m-%d")
        for stanza in apt.stanzas():
            if stanza.name in names:
                fields = stanza.parsed()
                found = (Version(fields["Version"]), stanza.archive, fields["Filename"])
                if stanza.name not in newest or found[0] > newest[stanza.name][0]:
                    newest[stanza.name] = found
    reasons = {}
    for artifact in gone:
        if artifact.name not in newest:
            reasons[artifact] = f"the archive of {state} has no package of this name any more"
            continue
        version, archive, path = newest[artifact.name]
        if str(version) == artifact.version:
            reasons[artifact] = "the archive's index still lists it: the mirror is incomplete, try again later"
            continue
        since = _since(source, f"{source.mirrors[archive]}/{urllib.parse.quote(path, safe='/')}")
        reasons[artifact] = f"superseded by {version}" + (
            f" since {since}" if since else f", on {state} at the latest (the date of the index)"
        )
    return reasons


def _since(source: DebianSource, address: str) -> str | None:
    """Return the date on which a file was added, according to the mirror, or None."""
    try:
        answer = source.session.head(address, timeout=TIMEOUT, allow_redirects=True)
        return email.utils.parsedate_to_datetime(answer.headers["Last-Modified"]).strftime("%Y-%m-%d")
    except (requests.RequestException, KeyError, ValueError):
        return None
