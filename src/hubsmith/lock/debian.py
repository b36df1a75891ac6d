"""Solve Debian packages with apt."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Mapping, Sequence

from hubsmith.archives.apt import AptRoot, Stanza
from hubsmith.errors import LockError
from hubsmith.lock.models import DebianPackage
from hubsmith.run import CommandFailed, run
from hubsmith.words import nearest

_ALWAYS = re.compile(r"^(Essential: yes|Priority: required)$", re.MULTILINE)
_URI = re.compile(r"^'(?P<uri>[^']+)' (?P<name>[^_ ]+)_(?P<version>[^_ ]+)_(?P<arch>[a-z0-9]+)\.deb (?P<size>\d+) ")

Key = tuple[str, str]


class Solver:
    """Solver for the packages of one suite."""

    def __init__(self, apt: AptRoot) -> None:
        self.apt = apt
        self.index: dict[Key, list[Stanza]] = {}
        self.required: set[str] = set()
        for stanza in apt.stanzas():
            self.index.setdefault((stanza.name, stanza.version), []).append(stanza)
            if _ALWAYS.search(stanza.text):
                self.required.add(stanza.name)

    def solve(self, names: Sequence[str], *, bootable: bool, where: str) -> list[DebianPackage]:
        """Choose packages and their dependencies, without recommended packages.

        :param names: requested packages.
        :param bootable: add all essential and required packages.
        :param where: definition, for error messages.
        :returns: packages sorted by name.
        :raises LockError: a package does not exist, or apt finds no solution.
        """
        known = {name for name, _ in self.index}
        missing = [name for name in names if name not in known and not self._provided(name)]
        if missing:
            lines = "".join(f"\n  - {name}; {nearest(name, known)}" for name in missing)
            raise LockError(f"{self.apt.suite} has no such package:{lines}", where=where)
        wanted = sorted({*names, *(self.required if bootable else ())})
        try:
            done = run(
                ["apt-get", "install", "--yes", "--print-uris", "-q", "--", *wanted],
                env=self.apt.env,
            )
        except CommandFailed as error:
            output = error.stdout.strip().splitlines() + error.stderr.strip().splitlines()
            raise LockError("apt finds no solution:\n" + "\n".join(output[-25:]), where=where) from None
        packages = [self._package(line) for line in done.stdout.splitlines() if line.startswith("'")]
        got = {package.name for package in packages}
        lost = [name for name in wanted if name in known and name not in got]
        if lost:
            raise LockError(f"apt did not list {', '.join(lost)}", where=where)
        return sorted(packages, key=lambda package: package.name)

    def _provided(self, name: str) -> bool:
        pattern = re.compile(rf"^Provides: .*(?<![\w+.-]){re.escape(name)}(?![\w+.-])", re.MULTILINE)
        return any(pattern.search(one.text) for many in self.index.values() for one in many)

    def _package(self, line: str) -> DebianPackage:
        match = _URI.match(line)
        if not match:
            raise LockError(f"apt printed a line that cannot be read: {line}", where="apt-get --print-uris")
        name, version = match["name"], urllib.parse.unquote(match["version"])
        uri = urllib.parse.unquote(match["uri"])
        for stanza in self.index.get((name, version), []):
            fields: Mapping[str, str] = stanza.parsed()
            if uri.endswith("/" + fields["Filename"].removeprefix("./")) and int(fields["Size"]) == int(match["size"]):
                return DebianPackage(
                    name=name,
                    version=version,
                    arch=match["arch"],  # type: ignore[arg-type]
                    archive=stanza.archive,  # type: ignore[arg-type]
                    path=fields["Filename"].removeprefix("./"),
                    size=int(fields["Size"]),
                    sha256=fields["SHA256"],
                    installed_size=int(fields.get("Installed-Size", "0")) * 1024,
                    essential=fields.get("Essential") == "yes",
                    priority=fields.get("Priority", "optional"),
                )
        raise LockError(f"{name} {version} is not in the index that apt chose it from", where="apt-get --print-uris")
