"""Create a release from a built and tested image."""

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

#: Files copied from the output folder, besides the disk.
COPIED = (MANIFEST, "sbom.cdx.json", "entries.json", "roothash", REPORT)


def place_of(root: Path) -> Path:
    """Return the folder of a tree's releases."""
    return root / "out" / "releases"


def make(
    root: Path, image: str, *, key: Path, progress: Callable[[str], None], version: str | None = None,
    since: Path | None = None,
) -> Release:  # fmt: skip
    """Create `out/releases/IMAGE-VERSION` atomically. An existing release of the same image is left unchanged.

    :param root: project tree.
    :param image: name of the image.
    :param key: key for the signature.
    :param progress: called with one line per step.
    :param version: by default the date of the newest package and the start of the manifest's checksum.
    :param since: release that the notes compare with; by default the latest.
    :raises HubsmithError: the image is not built, does not match this tree, or is not proven; the version is already
        used for another image; or the key cannot be used.
    """
    output = Output.of(root, image)
    progress("checking the image against its checksum, plan and report")
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
        for name in COPIED:
            if (output.folder / name).is_file():
                shutil.copyfile(output.folder / name, partial / name)
        run(["cp", "--reflink=auto", "--sparse=always", output.disk, release.qcow2])
        progress("writing the raw disk")
        run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", release.qcow2, release.raw])
        text = notes(about, manifest, previous.manifest if previous else None, release.report)
        files.write(partial / NOTES, text)
        files.write(partial / ABOUT, files.canonical(about.model_dump(mode="json")))
        progress("signing the checksums")
        (partial / SUMS).write_text(files.sums(partial))
        signature.sign(partial / SUMS, key)
        os.sync()
        partial.rename(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return Release.load(target)


def default_version(output: Output) -> str:
    """Return the date of the newest package and the start of the manifest's checksum."""
    manifest = output.manifest
    day = datetime.datetime.fromtimestamp(manifest["source_date_epoch"], datetime.UTC)
    return f"{day:%Y.%m.%d}-{files.canonical_sha256(manifest)[:8]}"


def source_of(root: Path) -> str:
    """Return the Git commit of a tree, with ``+changes`` if it is not clean; empty outside a checkout."""
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
            f"the disk was changed after the build ({SUMS} has another checksum)", where=str(disk),
            hint=f"hubsmith build {output.image}",
        )  # fmt: skip
    manifest = output.manifest
    if dumps(manifest_of(root, output.image, refreshed=manifest["lock"]["refreshed"])) != dumps(manifest):
        raise HubsmithError(
            "the image was not built from this tree", where=str(disk), hint=f"hubsmith build {output.image}"
        )
    report = output.folder / REPORT
    if why := unproven(table(report), sha256):
        raise HubsmithError(why, where=str(report), hint=f"hubsmith test {output.image}")
    return sha256


def _the_same(release: Release, sha256: str) -> Release:
    if release.about.image_sha256 != sha256:
        raise HubsmithError(
            "another image was released with this version", where=str(release.folder),
            hint="hubsmith release IMAGE --version ANOTHER",
        )  # fmt: skip
    return release
