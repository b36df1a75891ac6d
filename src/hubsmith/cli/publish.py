"""`hubsmith publish`: publish a release in a catalog."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hubsmith.catalog.base import Catalog, Sent
from hubsmith.catalog.local import LocalCatalog
from hubsmith.catalog.publish import prune, publish
from hubsmith.paths import project_root
from hubsmith.progress import Bytes
from hubsmith.release.folder import find
from hubsmith.release.make import place_of
from hubsmith.release.signature import default_key


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("release", metavar="RELEASE", help="a release's folder, or its name below out/releases")
    add_cloud(parser)
    parser.add_argument(
        "--format", choices=("qcow2", "raw"), default="qcow2", dest="disk_format",
        help="raw takes longer to upload, but clouds on Ceph start machines from it faster (default: qcow2)",
    )  # fmt: skip
    parser.add_argument(
        "--visibility", choices=("private", "shared", "community", "public"), default="community",
        help="who may use the image (default: community, that is anyone who knows its ID)",
    )  # fmt: skip
    parser.add_argument(
        "--keep", type=int, metavar="N",
        help="afterwards keep the newest N versions of the image, hide N older ones, and delete the rest unless in use",
    )  # fmt: skip
    parser.add_argument("--keys", type=Path, metavar="FILE", help="public keys, as for `hubsmith verify`")
    parser.add_argument("--json", action="store_true", help="print the entry as JSON")


def add_cloud(parser: argparse.ArgumentParser) -> None:
    """Declare the option that selects the catalog."""
    parser.add_argument(
        "--cloud", metavar="NAME", help="cloud in clouds.yaml (default: the catalog on this computer, a folder)"
    )


def catalog_of(cloud: str | None) -> Catalog:
    """Return the catalog of a cloud, or the one on this computer."""
    if cloud is None:
        return LocalCatalog()
    from hubsmith.catalog.glance import GlanceCatalog  # its library takes half a second to import

    return GlanceCatalog(cloud)


@contextmanager
def sending(size: int) -> Iterator[Sent]:
    """Show the progress of an upload: a bar on a terminal, lines in a log."""
    with Bytes("sent", 1, size) as bar:
        yield bar.advance
        bar.finish()


def main(args: argparse.Namespace) -> int:
    """Run the verb."""
    release = find(place_of(project_root()), args.release)
    catalog = catalog_of(args.cloud)
    own = default_key()

    def progress(line: str) -> None:
        print(f"publish {release.folder.name}: {line}", file=sys.stderr, flush=True)

    entry, done = publish(
        release, catalog, keys=args.keys or own.with_name(f"{own.name}.pub"), disk_format=args.disk_format,
        visibility=args.visibility, progress=progress, sending=sending,
    )  # fmt: skip
    progress("published" if done else "is there already")
    if args.keep is not None:
        prune(catalog, entry.image, args.keep, progress)
    print(json.dumps(entry.row(), indent=1) if args.json else entry.id)
    return 0
