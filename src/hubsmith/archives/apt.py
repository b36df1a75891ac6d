"""A private root for apt, with this computer's mirrors, proxies and credentials but without its installed packages."""

from __future__ import annotations

import email.utils
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from debian.deb822 import Deb822

from hubsmith.archives.machine import LABELS, debian_keyring, debian_mirrors, machine_acquire
from hubsmith.errors import LockError
from hubsmith.run import CommandFailed, run

ARCHITECTURE = "amd64"


_NAME = re.compile(r"^Package: (\S+)$", re.MULTILINE)
_VERSION = re.compile(r"^Version: (\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Stanza:
    """Entry of one package in a package index."""

    archive: str
    name: str
    version: str
    text: str

    def parsed(self) -> Deb822:
        """Return the fields of the entry."""
        return Deb822(self.text)


class AptRoot:
    """apt with private state in a folder, in which no package is installed.

    :param folder: empty folder for the state.
    :param suite: Debian suite.
    """

    def __init__(self, folder: Path, suite: str) -> None:
        self.folder, self.suite = folder, suite
        self.mirrors = debian_mirrors()
        self.env = {"APT_CONFIG": str(folder / "apt.conf")}
        for name in ("lists/partial", "archives/partial", "etc"):
            (folder / name).mkdir(parents=True)
        (folder / "status").touch()
        (folder / "sources.list").write_text(self._sources(debian_keyring()))
        config = folder / "apt.conf"
        config.touch(mode=0o600)
        config.write_text(
            machine_acquire()
            + f'''
Dir::State "{folder}";
Dir::State::lists "{folder}/lists";
Dir::State::status "{folder}/status";
Dir::Cache "{folder}";
Dir::Cache::archives "{folder}/archives";
Dir::Etc::sourcelist "{folder}/sources.list";
Dir::Etc::sourceparts "{folder}/etc";
Dir::Etc::main "{folder}/etc/none";
Dir::Etc::parts "{folder}/etc";
Dir::Etc::preferences "{folder}/etc/none";
Dir::Etc::preferencesparts "{folder}/etc";
Dir::Etc::trusted "{folder}/etc/none";
Dir::Etc::trustedparts "{folder}/etc";
APT::Architecture "{ARCHITECTURE}";
#clear APT::Architectures;
APT::Architectures {{ "{ARCHITECTURE}"; }};
#clear APT::Update;
#clear DPkg;
APT::Install-Recommends "0";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::GzipIndexes "0";
'''
        )

    def _sources(self, keyring: Path) -> str:
        def line(archive: str, suite: str) -> str:
            # apt's --print-uris omits packages of file: archives, since it need not copy them.
            address = re.sub(r"^file:", "copy:", self.mirrors[archive])
            return f"deb [arch={ARCHITECTURE} signed-by={keyring}] {address} {suite} main\n"

        return (
            line("debian", self.suite)
            + line("debian", f"{self.suite}-updates")
            + line("debian-security", f"{self.suite}-security")
        )

    def update(self) -> None:
        """Fetch the package indices and verify their signatures.

        :raises LockError: an archive cannot be reached, or its signature is invalid.
        """
        try:
            done = run(["apt-get", "update", "--error-on=any"], env=self.env)
        except CommandFailed as error:
            lines = [line for line in error.stderr.splitlines() if line.startswith(("E:", "W:"))]
            bad = any("signature" in line or "not signed" in line or "NO_PUBKEY" in line for line in lines)
            what = "the archive's signature is not good" if bad else "the package indices cannot be fetched"
            raise LockError(f"{what}:\n" + "\n".join(lines), where=f"apt ({self.suite})") from None
        if "W:" in done.stderr:
            raise LockError(f"apt warned about an archive:\n{done.stderr.strip()}", where=f"apt ({self.suite})")

    def _targets(self, created_by: str) -> Iterator[tuple[str, Path]]:
        done = run(
            ["apt-get", "indextargets", "--format", "$(LABEL)|$(FILENAME)", f"Created-By: {created_by}"], env=self.env
        )
        archives = {label: archive for archive, label in LABELS.items()}
        for line in done.stdout.splitlines():
            label, name = line.split("|", 1)
            if label not in archives:
                raise LockError(f"an archive is labelled {label!r}, not one of {', '.join(archives)}", where=name)
            yield archives[label], Path(name)

    def date(self) -> int:
        """Return the newest date (seconds since 1970) among the signed Release files.

        :raises LockError: a Release file has no date.
        """
        dates = []
        for path in sorted((self.folder / "lists").glob("*Release")):
            found = re.search(r"^Date: (.+)$", path.read_text(), re.MULTILINE)
            if not found:
                raise LockError("the Release file has no date", where=path.name)
            dates.append(int(email.utils.parsedate_to_datetime(found[1]).timestamp()))
        return max(dates)

    def stanzas(self) -> Iterator[Stanza]:
        """Yield the entries of all package indices."""
        for archive, path in self._targets("Packages"):
            if path.exists():
                for text in path.read_text(encoding="utf-8").split("\n\n"):
                    name, version = _NAME.search(text), _VERSION.search(text)
                    if name and version:
                        yield Stanza(archive, name[1], version[1], text.strip() + "\n")


@contextmanager
def apt_root(suite: str) -> Iterator[AptRoot]:
    """Create a temporary private apt with fresh, verified indices.

    :raises LockError: see :func:`hubsmith.archives.machine.debian_mirrors` and :meth:`AptRoot.update`.
    """
    with TemporaryDirectory(prefix="hubsmith-apt-") as folder:
        root = AptRoot(Path(folder), suite)
        root.update()
        yield root
