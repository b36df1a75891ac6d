"""Make a release of what a build and its tests have put out."""

from __future__ import annotations

import datetime
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from hubsmith import files
from hubsmith.errors import HubsmithError
from hubsmith.output import SUMS, Output
from hubsmith.plan import dumps
from hubsmith.plan.images import manifest_of
from hubsmith.release import signature
from hubsmith.release.folder import (
    ABOUT,
    MANIFEST,
    NOTES,
    REPORT,
    About,
    Release,
    check_version,
    releases,
    table,
    unproven,
)
from hubsmith.release.notes import notes
from hubsmith.run import CommandFailed, run

#: What is taken over from the build's folder beside the disk.
TAKEN = (MANIFEST, "sbom.cdx.json", "entries.json", "roothash", REPORT)


def place_of(root: Path) -> Path:
    """Where a tree's releases are."""
    return root / "out" / "releases"


def make(
    root: Path, image: str, *, key: Path, say: Callable[[str], None], version: str | None = None,
    since: Path | None = None,
) -> Release:  # fmt: skip
    """A folder `out/releases/IMAGE-VERSION`, which is there as a whole or not at all; one that is there with the same
    image is left alone.

    :param key: signs it.
    :param say: gets a line per step.
    :param version: without one, the date of the image's packages and the beginning of its manifest's checksum.
    :param since: the release that the notes compare with; without it, the one that was made last.
    :raises HubsmithError: the image is not built, is not what this tree describes, or is not proven; another image
        was released under this version; the key cannot be used.
    """
    output = Output.of(root, image)
    say("comparing the image with its checksum, its plan and its report")
    sha256 = _proven(root, output)
    manifest = output.manifest
    version = check_version(default_version(output) if version is None else version)
    target = place_of(root) / f"{image}-{version}"
    if target.exists():
        return _the_same(Release.load(target), sha256)
    earlier = [one for one in releases(place_of(root), image) if one.about.version != version]
    previous = Release.load(since) if since else earlier[-1] if earlier else None
    about = About(
        image=image, version=version, summary=manifest["summary"], source=source_of(root),
        made=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        previous=previous.about.version if previous else None,
        manifest_sha256=files.canonical_sha256(manifest), image_sha256=sha256, openstack=manifest["openstack"],
        min_disk_gb=manifest["disk"]["min_gb"], min_ram_mb=manifest["min_ram_mb"],
    )  # fmt: skip
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        release = Release(partial, about)
        for name in TAKEN:
            if (output.folder / name).is_file():
                shutil.copyfile(output.folder / name, partial / name)
        run(["cp", "--reflink=auto", "--sparse=always", output.disk, release.qcow2])
        say("writing the raw disk")
        run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", release.qcow2, release.raw])
        text = notes(about, manifest, previous.manifest if previous else None, release.report)
        files.write(partial / NOTES, text)
        files.write(partial / ABOUT, files.canonical(about.model_dump(mode="json")))
        say("checksums and signature")
        (partial / SUMS).write_text(files.sums(partial))
        signature.sign(partial / SUMS, key)
        os.sync()
        partial.rename(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return Release.load(target)


def default_version(output: Output) -> str:
    """The date of the image's newest package and the beginning of its manifest's checksum: one image, one version."""
    manifest = output.manifest
    day = datetime.datetime.fromtimestamp(manifest["source_date_epoch"], datetime.UTC)
    return f"{day:%Y.%m.%d}-{files.canonical_sha256(manifest)[:8]}"


def source_of(root: Path) -> str:
    """The commit of a tree; with ``+changes`` when it is not clean, empty when it is no checkout."""
    try:
        commit = run(["git", "rev-parse", "HEAD"], cwd=root).stdout.strip()
        changed = run(["git", "status", "--porcelain", "--", "."], cwd=root).stdout.strip()
    except CommandFailed:
        return ""
    return f"{commit}+changes" if changed else commit


def _proven(root: Path, output: Output) -> str:
    sha256, disk = output.sha256, output.disk
    if files.sha256(disk) != sha256:
        raise HubsmithError(
            f"it is not what was built ({SUMS} has another checksum)", where=str(disk),
            mend=f"hubsmith build {output.image}",
        )  # fmt: skip
    manifest = output.manifest
    if dumps(manifest_of(root, output.image, refreshed=manifest["lock"]["refreshed"])) != dumps(manifest):
        raise HubsmithError(
            "it was built from another tree than this one", where=str(disk), mend=f"hubsmith build {output.image}"
        )
    report = output.folder / REPORT
    if why := unproven(table(report), sha256):
        raise HubsmithError(why, where=str(report), mend=f"hubsmith test {output.image}")
    return sha256


def _the_same(release: Release, sha256: str) -> Release:
    if release.about.image_sha256 != sha256:
        raise HubsmithError(
            "there is a release of another image under this version", where=str(release.folder),
            mend="hubsmith release IMAGE --version ANOTHER",
        )  # fmt: skip
    return release
