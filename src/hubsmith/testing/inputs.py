"""The inputs of a test: derived from its imports, its fixtures and the hosts files that it names.

While a test or one of its fixtures runs, :class:`Watch` notes which of the project's files it opens or hands to a
program. One that is not among the inputs makes the test fail: its change would not invalidate the proof.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from hubsmith.definition import define
from hubsmith.errors import HarnessFailed, HubsmithError
from hubsmith.output import SUMS, Output
from hubsmith.run import run
from hubsmith.testing.proofs import FOLDER, Inputs
from hubsmith.testing.sources import COMMAND, Tree

#: Tests that read nothing that is built and boot nothing: they take seconds, and always run.
FAST = ("tests/unit", "tests/golden")
#: Fixtures whose parameter is the name of an image: its disk, and all that its build has put out.
IMAGE, OUTPUT = "image", "output"
#: Folders with what images are made of, so that an image's checksum stands for what it has of them.
MADE_OF = ("images", "modules", "nix")
#: Of these, what no image contains.
NOT_MADE_OF = ("check.py", "README.md")
#: What no test depends on although pytest or git read it.
IGNORED = ("pyproject.toml", ".gitignore", str(FOLDER))


class InputsOf:
    """Finds the inputs of tests.

    :param root: the project's tree.
    """

    def __init__(self, root: Path) -> None:
        self.tree = Tree(root)
        self.root = root
        self._images: dict[tuple[str, str], str] = {}

    def is_fast(self, item: pytest.Item) -> bool:
        """Whether the test is one of those that always run."""
        return item.path.relative_to(self.root).as_posix().startswith(tuple(f"{folder}/" for folder in FAST))

    def of(self, item: pytest.Item) -> Inputs:
        """All inputs of a test."""
        paths = self.paths(item)
        return Inputs(
            images=self._identities(item, paths),
            files={path.relative_to(self.root).as_posix(): self.tree.fingerprint(path) for path in sorted(paths)},
        )

    def paths(self, item: pytest.Item) -> set[Path]:
        """The files: the test's, those of its fixtures, and what they depend on."""
        roots = {item.path}
        fixtures = getattr(item, "_fixtureinfo", None)
        for definitions in fixtures.name2fixturedefs.values() if fixtures else ():
            for definition in definitions:
                file = Path(inspect.getfile(inspect.unwrap(definition.func)))
                if self.tree.owns(file):
                    roots.add(file)
        named = {path for marker in item.iter_markers("reads") for glob in marker.args for path in self.root.glob(glob)}
        return {*self.tree.closure(roots), *(path for path in named if path.is_file() and self.tree.owns(path))}

    def _identities(self, item: pytest.Item, paths: set[Path]) -> dict[str, str]:
        parameters = getattr(getattr(item, "callspec", None), "params", {})
        names = {(parameters[kind], kind) for kind in (IMAGE, OUTPUT) if kind in parameters}
        for path in paths:
            if path.suffix == ".toml":
                names |= {(name, IMAGE) for name in _hosts_images(path)}
        found: dict[str, str] = {}
        for name, kind in sorted(names):
            found[name] = found.get(name, "") + self._identity(name, kind)
        return found

    def _identity(self, name: str, kind: str) -> str:
        if (name, kind) not in self._images:
            self._images[name, kind] = _identity(self.root, name, kind)
        return self._images[name, kind]

    def unchanged(self, inputs: Inputs) -> bool:
        """Whether all is still what it was: a build or an editor may be at work while a test runs."""
        seen = ((key, identity) for key, identity in self._images.items() if key[0] in inputs.images)
        return all(_identity(self.root, *key) == identity for key, identity in seen) and all(
            self.tree.unchanged(self.root / path) for path in inputs.files
        )


def _identity(root: Path, name: str, kind: str) -> str:
    """What stands for an image: the checksum of its disk, or of the list of all files of its build."""
    output = Output.of(root, name)
    try:
        return output.sha256 if kind == IMAGE else hashlib.sha256((output.folder / SUMS).read_bytes()).hexdigest()
    except (HubsmithError, FileNotFoundError):
        return "not built"


def _hosts_images(path: Path) -> Iterator[str]:
    """The images of a hosts file; none of any other file."""
    try:
        hosts = tomllib.loads(path.read_text(encoding="utf-8")).get("hosts")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        return  # such as a test's example of a bad file
    for host in hosts.values() if isinstance(hosts, dict) else ():
        if isinstance(host, dict) and isinstance(host.get("image"), str):
            yield host["image"]


@cache
def _made_of(root: Path, image: str) -> tuple[str, ...]:
    """What an image is made of: beginnings of paths."""
    try:
        definition = define(root, image)
    except HubsmithError:
        return ()
    parts = [image, *definition.bases, *definition.image.image.containers]
    own = [*(f"images/{name}." for name in parts), *(f"modules/{name}/" for name in definition.modules)]
    return (*own, *(path for name in definition.image.image.containers for path in _made_of(root, name)))


class Watch:
    """Sees which files of the project are opened or named to a program that is started."""

    def __init__(self, inputs: InputsOf) -> None:
        self._inputs = inputs
        self._seen: list[set[Path]] = []
        self._of_fixtures: dict[Any, set[Path]] = {}
        self._known: dict[str, Path | None] = {}
        # There is no way to take a hook away: it stays silent while nothing watches.
        sys.addaudithook(self._hook)

    @contextmanager
    def watching(self) -> Iterator[set[Path]]:
        """Collect what is used within the block; blocks may be nested."""
        seen: set[Path] = set()
        self._seen.append(seen)
        try:
            yield seen
        finally:
            self._seen.pop()

    @contextmanager
    def setting_up(self, fixture: pytest.FixtureDef[Any]) -> Iterator[None]:
        """Collect what a fixture uses: it counts for each test that has the fixture, also for those that come later."""
        with self.watching() as self._of_fixtures[fixture]:
            yield

    def judge(self, item: pytest.Item, inputs: Inputs, seen: set[Path]) -> None:
        """Compare what a test and its fixtures used with the test's inputs.

        :raises HarnessFailed: something is not among them.
        """
        root = self._inputs.root
        fixtures = getattr(item, "_fixtureinfo", None)
        for definitions in fixtures.name2fixturedefs.values() if fixtures else ():
            seen = seen.union(*(self._of_fixtures.get(one, ()) for one in definitions))
        used = {path.relative_to(root).as_posix() for path in seen if _is_file(path)}
        stray = sorted(path for path in used - inputs.files.keys() if not self._covered(path, inputs))
        if stray:
            raise HarnessFailed(
                f"the test reads {', '.join(stray[:5])}, which is not among its inputs: a proof would outlive a change",
                where=item.nodeid,
                hint='@pytest.mark.reads("' + stray[0] + '")',
            )

    def _covered(self, path: str, inputs: Inputs) -> bool:
        if path.startswith(IGNORED):
            return True
        if path.partition("/")[0] not in MADE_OF or path.endswith(NOT_MADE_OF) or not inputs.images:
            return False
        # All definitions are read to find those of one image.
        definition = path.endswith(".toml")
        made_of = (part for image in inputs.images for part in _made_of(self._inputs.root, image))
        return definition or path.startswith(("nix/", *made_of))

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._seen:
            return
        if event == "open":
            self._note(arguments[0])
        elif event == "subprocess.Popen":
            words = arguments[1] if isinstance(arguments[1], list | tuple) else ()
            for word in words:
                self._note(word)
            if words and Path(str(words[0])).name == COMMAND:
                self._note(self._inputs.root / "src/hubsmith/cli/__init__.py")

    def _note(self, name: Any) -> None:
        if not isinstance(name, str | Path):
            return
        text = str(name)
        if text not in self._known:
            # Resolved: a project that a test makes may link to folders of this one.
            path = Path(os.path.realpath(text))
            if path.suffix == ".pyc" and path.parent.name == "__pycache__":
                path = path.parent.with_name(path.name.partition(".")[0] + ".py")
            self._known[text] = path if self._inputs.tree.owns(path) else None
        if (found := self._known[text]) is not None:
            for seen in self._seen:
                seen.add(found)


def _is_file(path: Path) -> bool:
    """Whether there is such a file. A script for `sh -c` can be longer than any path."""
    try:
        return path.is_file()
    except OSError:
        return False


def change_times(root: Path) -> dict[str, int]:
    """When each file of the tree was last changed, in seconds since 1970: by its last commit, or now when it differs
    from it."""
    times: dict[str, int] = {}
    moment = 0
    log = ["git", "log", "--format=@%ct", "--name-only", "--no-renames"]
    for line in run(log, cwd=root, check=False).stdout.splitlines():
        if line.startswith("@"):
            moment = int(line[1:])
        elif line:
            times.setdefault(line, moment)
    status = ["git", "status", "--porcelain", "--untracked-files=all"]
    changed = run(status, cwd=root, check=False).stdout.splitlines()
    return times | {line[3:]: sys.maxsize for line in changed}
