"""`hubsmith plan`: print an image's manifest."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from hubsmith.definition import image_names
from hubsmith.lock import locate
from hubsmith.paths import project_root
from hubsmith.plan import dumps, golden, oftree


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("images", nargs="*", metavar="IMAGE", help="an image; without any: all of them")
    parser.add_argument("--json", action="store_true", help="print the whole manifest (of one image)")
    parser.add_argument(
        "--largest", type=int, default=10, metavar="N", help="list so many packages (default: %(default)s)"
    )
    parser.add_argument("--refreshed", action="store_true", help="use the lock that `fetch --refresh-if-gone` made")
    parser.add_argument("--write-golden", action="store_true", help="write tests/golden/<image>.manifest.sha256")


def manifest_of(root: Path, name: str, *, refreshed: bool = False) -> dict[str, Any]:
    """The manifest of an image of a tree.

    :raises DefinitionError: the definition is wrong.
    :raises LockError: the lock is missing or does not match.
    """
    return oftree.manifest_of(root, name, lambda one: locate(root, one, refreshed=refreshed))


def main(args: argparse.Namespace) -> int:
    """Run the verb."""
    root = project_root()
    names = args.images or image_names(root)
    for name in names:
        manifest = manifest_of(root, name, refreshed=args.refreshed)
        text = dumps(manifest)
        if args.write_golden:
            changed = golden.write(root, name, text)
            print(f"{name}: {'written' if changed else 'unchanged'}: {golden.path_of(root, name).relative_to(root)}")
        elif args.json:
            sys.stdout.write(text)
        else:
            summary(manifest, golden.line(name, text).split()[0], args.largest)
    return 0


def largest(manifest: dict[str, Any], count: int) -> list[tuple[int, str]]:
    """The packages that take the most room in the image: bytes and name, the largest first."""
    rows = [(package["installed_size"], f"{package['name']} {package['version']}") for package in manifest["debian"]]
    for kind, key in (("python", "wheels"), ("npm", "packages")):
        for env, content in manifest[kind].items():
            rows += [(one["installed_size"], f"{one['name']} {one['version']} (/opt/{env})") for one in content[key]]
    return sorted(rows, key=lambda row: (-row[0], row[1]))[:count]


def summary(manifest: dict[str, Any], checksum: str, count: int) -> None:
    """Print what a person wants to know of a manifest."""
    rows = largest(manifest, sys.maxsize)
    wheels = sum(len(env["wheels"]) for env in manifest["python"].values())
    npm = sum(len(tree["packages"]) for tree in manifest["npm"].values())
    print(f"{manifest['image']}: {manifest['summary']}")
    print(f"  manifest  {checksum}{' (refreshed lock)' if manifest['lock']['refreshed'] else ''}")
    print(f"  modules   {', '.join(manifest['modules'])}")
    print(f"  packages  {len(manifest['debian'])} Debian, {wheels} Python, {npm} npm: ", end="")
    print(f"{sum(size for size, _ in rows) / 1e6:.0f} MB installed")
    print(f"  files     {len(manifest['files'])} files, {len(manifest['templates'])} templates")
    ports = [f"{port['number']}/{port['protocol']}" for port in manifest["ports"] if port["audience"] == "all"]
    print(f"  open to all: {', '.join(ports) or 'nothing'}")
    if count:
        print(f"  the {min(count, len(rows))} largest packages, installed:")
        for size, name in rows[:count]:
            print(f"  {size / 1e6:8.1f} MB  {name}")
