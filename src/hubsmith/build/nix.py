"""The Nix backend, seen from the build machine: start a build, show its stages, copy its result out."""

from __future__ import annotations

import grp
import logging
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from hubsmith.errors import BuildError
from hubsmith.fetch import nixstore
from hubsmith.fetch.artifacts import artifacts_of
from hubsmith.fetch.run import artifact_path
from hubsmith.lock import Lock, inputs_of
from hubsmith.lock.files import load_matching, locate
from hubsmith.lock.inputs import TOOLS
from hubsmith.run import run, spawn

log = logging.getLogger("hubsmith.build")

#: `building '/nix/store/<hash>-<name>.drv'...`
_BUILDING = re.compile(r"^building '/nix/store/[a-z0-9]{32}-(?P<name>.+)\.drv'")
#: How many lines of a failed build's output the error quotes.
TAIL = 25


@dataclass(frozen=True)
class Built:
    """A finished build.

    :ivar folder: the output folder, with copies of the files of the store path.
    :ivar sha256: of the qcow2.
    :ivar seconds: wall time of the whole build.
    :ivar stages: wall time in seconds of each stage that had to be built.
    """

    image: str
    folder: Path
    store_path: str
    sha256: str
    seconds: float
    stages: dict[str, float]
    refreshed: bool


def nix_environment() -> dict[str, str]:
    """`NIX_CONFIG` for our calls: flakes on, no substituter (nobody serves our paths), a real sandbox.

    Root on a fresh `nix-bin` has no build users; a multi-user installation keeps its own.
    """
    lines = [
        "experimental-features = nix-command flakes",
        "substituters =",
        "sandbox = true",
        "sandbox-fallback = false",
    ]
    if os.geteuid() == 0 and not any(group.gr_name == "nixbld" and group.gr_mem for group in grp.getgrall()):
        lines.append("build-users-group =")
    return {"NIX_CONFIG": "\n".join(lines)}


def build(root: Path, image: str, *, refreshed: bool = False, rebuild: bool = False, out: Path | None = None) -> Built:
    """Build an image offline.

    :param root: the project's tree.
    :param refreshed: prefer a refreshed lock over the committed one.
    :param rebuild: forget what earlier builds made of this image, toolchain included, and make everything anew.
    :param out: the output folder; ``out/<image>`` below the tree without it.
    :raises LockError: the lock does not match the definition.
    :raises BuildError: something is not fetched, or a stage failed.
    """
    began = time.monotonic()
    choices = {name: locate(root, name, refreshed=refreshed) for name in (TOOLS, image)}
    locks = [load_matching(choice.path, inputs_of(root, name)) for name, choice in choices.items()]
    _insist_fetched(image, locks)
    with TemporaryDirectory(prefix="hubsmith-locks-") as folder:
        arguments = [str(root / "nix" / "default.nix")]
        for name, choice in choices.items():
            if choice.refreshed:
                shutil.copyfile(choice.path, Path(folder) / f"{name}.lock.json")
                arguments += ["--argstr", "locksPath", folder] if "locksPath" not in arguments else []
        if rebuild:
            _forget(root, image, arguments)
        gc_root = root / "out" / ".roots" / image
        gc_root.parent.mkdir(parents=True, exist_ok=True)
        command = ["nix-build", *arguments, "--attr", image, "--out-link", str(gc_root)]
        store_path, stages = _watch(image, command)
    target = out or root / "out" / image
    _copy_out(Path(store_path), target)
    lines = [line.split("  ", 1) for line in (target / "SHA256SUMS").read_text().splitlines()]
    sums = {name: checksum for checksum, name in lines}
    return Built(
        image, target, store_path, sums[f"{image}.qcow2"], time.monotonic() - began, stages,
        any(choice.refreshed for choice in choices.values()),
    )  # fmt: skip


def raw(built: Built) -> Path:
    """Write the image as a raw disk beside the qcow2 and return its path."""
    target = built.folder / f"{built.image}.raw"
    run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", built.folder / f"{built.image}.qcow2", target])
    return target


def _insist_fetched(image: str, locks: Sequence[Lock]) -> None:
    paths = {artifact_path(artifact): artifact for artifact in artifacts_of(locks)}
    missing = [str(paths[path]) for path in sorted(nixstore.invalid(list(paths)))]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise BuildError(f"not fetched: {', '.join(missing[:3])}{more}", where=image, mend=f"hubsmith fetch {image}")


def _forget(root: Path, image: str, arguments: list[str]) -> None:
    """Delete the store paths of every stage of the image, so that all of them are made anew."""
    (root / "out" / ".roots" / image).unlink(missing_ok=True)
    derivation = run(["nix-instantiate", *arguments, "--attr", image], env=nix_environment()).stdout.split()[-1]
    needed = run(["nix-store", "--query", "--requisites", derivation]).stdout.split()
    outputs = run(
        ["nix-store", "--query", "--outputs", *(path for path in needed if path.endswith(".drv"))]
    ).stdout.split()
    mine = sorted({path for path in outputs if re.search(rf"-({re.escape(image)}-[a-z0-9-]+|hubsmith-tools)$", path)})
    valid = [path for path in mine if path not in nixstore.invalid(mine)]
    if valid:
        run(["nix-store", "--delete", *valid])


def _watch(image: str, command: list[str]) -> tuple[str, dict[str, float]]:
    """Run nix-build; one line per stage on standard error; returns the store path and the stages' seconds."""
    planned = run([*command, "--dry-run"], env=nix_environment(), check=False).stderr
    total = len(re.findall(r"\.drv$", planned, re.MULTILINE))
    stages: dict[str, float] = {}
    lines: list[str] = []
    current, since = "", time.monotonic()
    process = spawn(command, env=nix_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    try:
        for raw_line in process.stderr:
            line = raw_line.decode(errors="replace").rstrip()
            lines.append(line)
            log.debug("%s", line)
            if match := _BUILDING.match(line):
                now = time.monotonic()
                if current:
                    stages[current] = round(now - since, 1)
                current, since = match["name"].removeprefix(f"{image}-"), now
                print(f"build {image}: [{len(stages) + 1}/{total}] {current}", file=sys.stderr, flush=True)
        store_path = process.stdout.read().decode().strip()
        code = process.wait()
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
    if current:
        stages[current] = round(time.monotonic() - since, 1)
    if code != 0:
        tail = "\n".join(lines[-TAIL:])
        raise BuildError(f"the stage {current or 'evaluation'} failed:\n{tail}", where=image)
    return store_path, stages


def _copy_out(store_path: Path, target: Path) -> None:
    """Copy the files of a store path, once; a marker says which path the folder holds."""
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
