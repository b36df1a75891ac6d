"""Human-readable summary of a manifest."""

from __future__ import annotations

import sys
from typing import Any


def largest(manifest: dict[str, Any], count: int) -> list[tuple[int, str]]:
    """Return the installed size (bytes) and name of the largest packages, the largest first."""
    rows = [(package["installed_size"], f"{package['name']} {package['version']}") for package in manifest["debian"]]
    for kind, key in (("python", "wheels"), ("npm", "packages")):
        for env, content in manifest[kind].items():
            rows += [(one["installed_size"], f"{one['name']} {one['version']} (/opt/{env})") for one in content[key]]
    return sorted(rows, key=lambda row: (-row[0], row[1]))[:count]


def summary(manifest: dict[str, Any], checksum: str, count: int) -> str:
    """Return a summary of several lines, without a final newline.

    :param checksum: SHA-256 of the manifest's text.
    :param count: number of largest packages to list.
    """
    rows = largest(manifest, sys.maxsize)
    size = sum(size for size, _ in rows) / 1e6
    wheels = sum(len(env["wheels"]) for env in manifest["python"].values())
    npm = sum(len(tree["packages"]) for tree in manifest["npm"].values())
    ports = [f"{port['number']}/{port['protocol']}" for port in manifest["ports"] if port["audience"] == "all"]
    lines = [
        f"{manifest['image']}: {manifest['summary']}",
        f"  manifest  {checksum}{' (refreshed lock)' if manifest['lock']['refreshed'] else ''}",
        f"  modules   {', '.join(manifest['modules'])}",
        f"  packages  {len(manifest['debian'])} Debian, {wheels} Python, {npm} npm: {size:.0f} MB installed",
        f"  files     {len(manifest['files'])} files, {len(manifest['templates'])} templates",
        f"  open to all: {', '.join(ports) or 'nothing'}",
    ]
    if count:
        lines += [f"  the {min(count, len(rows))} largest packages, installed:"]
        lines += [f"  {size / 1e6:8.1f} MB  {name}" for size, name in rows[:count]]
    return "\n".join(lines)
