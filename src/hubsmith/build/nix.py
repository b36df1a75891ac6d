"""Driver of the Nix backend: starts a build, shows its stages, and copies the result out of the store."""

from __future__ import annotations

import grp
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from hubsmith.build.nixlog import Watch
from hubsmith.errors import BuildError
from hubsmith.fetch import nixstore
from hubsmith.fetch.run import artifact_path
from hubsmith.lock import Lock, inputs_of
from hubsmith.lock.artifacts import artifacts_of
from hubsmith.lock.files import load_matching, locate
from hubsmith.lock.inputs import locks_of
from hubsmith.output import Output
from hubsmith.run import run, spawn

#: Maximum number of parallel stages. The graph has no more (`nix/image.nix`), and each may use all processors.
MOST_JOBS = 4


@dataclass(frozen=True)
class Built:
    """A finished build.

    :ivar folder: output folder, with copies of the store path's files.
    :ivar file: the image: a disk, or the archive of a container image.
    :ivar sha256: SHA-256 of that file.
    :ivar seconds: wall time of the whole build.
    :ivar stages: wall time in seconds of each stage that had to be built.
    """

    image: str
    folder: Path
    file: Path
    store_path: str
    sha256: str
    seconds: float
    stages: dict[str, float]
    refreshed: bool


def nix_environment() -> dict[str, str]:
    """Return `NIX_CONFIG` for calls of Nix: flakes, no substituters (none has these paths), and the sandbox.

    Root on a fresh `nix-bin` has no build users, so they are turned off. A multi-user installation keeps its own.
    """
    lines = [
        "experimental-features = nix-command flakes",
        "substituters =",
        "sandbox = true",
        "sandbox-fallback = false",
        # Package layers and environments are built in parallel: dpkg keeps one processor busy, pip another.
        f"max-jobs = {min(os.cpu_count() or 1, MOST_JOBS)}",
    ]
    if os.geteuid() == 0 and not any(group.gr_name == "nixbld" and group.gr_mem for group in grp.getgrall()):
        lines.append("build-users-group =")
    return {"NIX_CONFIG": "\n".join(lines)}


def build(root: Path, image: str, *, refreshed: bool = False, rebuild: bool = False, out: Path | None = None) -> Built:
    """Build an image offline.

    :param root: project tree.
    :param refreshed: prefer a refreshed lock over the committed one.
    :param rebuild: delete the results of earlier builds of this image, including the toolchain, and build them again.
    :param out: output folder; by default ``out/<image>`` in the tree.
    :raises LockError: the lock does not match the definition.
    :raises BuildError: an artifact is not fetched, or a stage failed.
    """
    began = time.monotonic()
    choices = {name: locate(root, name, refreshed=refreshed) for name in locks_of(root, image)}
    locks = [load_matching(choice.path, inputs_of(root, name)) for name, choice in choices.items()]
    _insist_fetched(image, locks)
    with expression(root, image, refreshed=refreshed) as arguments:
        compare = _forget(root, image, arguments) if rebuild else []
        gc_root = root / "out" / ".roots" / image
        gc_root.parent.mkdir(parents=True, exist_ok=True)
        store_path, stages = _watch(
            image, ["nix-build", *arguments, *compare, "--attr", image, "--out-link", str(gc_root)]
        )
    output = Output(image, out) if out else Output.of(root, image)
    _copy_out(Path(store_path), output.folder)
    return Built(
        image, output.folder, output.file, store_path, output.sha256, time.monotonic() - began, stages,
        any(choice.refreshed for choice in choices.values()),
    )  # fmt: skip


@contextmanager
def expression(root: Path, image: str, *, refreshed: bool = False) -> Iterator[list[str]]:
    """Provide Nix's arguments for the build graph, with refreshed locks if they are preferred and exist."""
    with TemporaryDirectory(prefix="hubsmith-locks-") as folder:
        arguments = [str(root / "nix" / "default.nix")]
        for name in locks_of(root, image):
            choice = locate(root, name, refreshed=refreshed)
            if choice.refreshed:
                shutil.copyfile(choice.path, Path(folder) / f"{name}.lock.json")
                arguments += ["--argstr", "locksPath", folder] if "locksPath" not in arguments else []
        yield arguments


def raw(built: Built) -> Path:
    """Write the image as a raw disk next to the qcow2, and return its path.

    :raises BuildError: the image is a container image.
    """
    if built.file.suffix != ".qcow2":
        raise BuildError("a container image has no disk", where=built.image)
    target = built.folder / f"{built.image}.raw"
    run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", built.file, target])
    return target


def _insist_fetched(image: str, locks: Sequence[Lock]) -> None:
    paths = {artifact_path(artifact): artifact for artifact in artifacts_of(locks)}
    missing = [str(paths[path]) for path in sorted(nixstore.invalid(list(paths)))]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise BuildError(f"not fetched: {', '.join(missing[:3])}{more}", where=image, hint=f"hubsmith fetch {image}")


def _forget(root: Path, image: str, arguments: list[str]) -> list[str]:
    """Delete the store paths of all stages of the image, so that they are built again.

    :returns: further arguments for nix-build. If the output of the last stage is still used, by the build of another
        tree, it cannot be deleted. Then it is built again and compared.
    :raises BuildError: the output of another stage is in use.
    """
    (root / "out" / ".roots" / image).unlink(missing_ok=True)
    derivation = run(["nix-instantiate", *arguments, "--attr", image], env=nix_environment()).stdout.split()[-1]
    needed = run(["nix-store", "--query", "--requisites", derivation]).stdout.split()
    outputs = run(
        ["nix-store", "--query", "--outputs", *(path for path in needed if path.endswith(".drv"))]
    ).stdout.split()
    mine = sorted({path for path in outputs if re.search(rf"-({re.escape(image)}-[a-z0-9-]+|hubsmith-tools)$", path)})
    missing = nixstore.invalid(mine)
    users = {path: run(["nix-store", "--query", "--roots", path]).stdout.split("\n")[0] for path in {*mine} - missing}
    if old := sorted(path for path, user in users.items() if not user):
        run(["nix-store", "--delete", *old])
    used = {path: user for path, user in users.items() if user}
    itself = run(["nix-store", "--query", "--outputs", derivation]).stdout.split()
    if others := sorted(used.keys() - itself):
        raise BuildError(
            "cannot be built again: it is in use",
            where=others[0],
            hint=f"end or delete {used[others[0]].split(' -> ')[0]}",
        )
    return ["--check"] if used else []


def _watch(image: str, command: list[str]) -> tuple[str, dict[str, float]]:
    """Run nix-build and report its stages on standard error.

    :returns: store path, and the seconds of each stage.
    """
    watch = Watch(image)
    process = spawn(
        [*command, "--log-format", "internal-json"],
        env=nix_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None and process.stderr is not None
    try:
        for line in process.stderr:
            watch.line(line.decode(errors="replace").rstrip())
        store_path = process.stdout.read().decode().strip()
        code = process.wait()
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
    if code != 0:
        raise BuildError(watch.failure(), where=image)
    return store_path, watch.stages


def _copy_out(store_path: Path, target: Path) -> None:
    """Copy the files of a store path, unless a marker shows that the folder already has them."""
    mark = target / ".store-path"
    if mark.is_file() and mark.read_text() == str(store_path):
        return
    target.mkdir(parents=True, exist_ok=True)
    mark.unlink(missing_ok=True)
    for old in target.iterdir():
        if old.is_file():
            old.unlink()
    for file in sorted(store_path.iterdir()):
        run(["cp", "--reflink=auto", "--sparse=always", file, target / file.name])
        (target / file.name).chmod(0o644)
    mark.write_text(str(store_path))
