"""What `scripts/bench` measures: the build against plain mmdebstrap and pip with the same inputs, in one run."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from hubsmith.build import nix
from hubsmith.fetch.artifacts import artifacts_of
from hubsmith.fetch.cache import Cache
from hubsmith.lock import Lock, inputs_of
from hubsmith.lock.files import committed_path, load_matching
from hubsmith.paths import project_root
from hubsmith.run import run

IMAGE = "master"
PLATFORMS = ("manylinux_2_34", "manylinux_2_28", "manylinux_2_17", "manylinux2014")


def timed(what: str, work: Callable[[], object]) -> float:
    """Seconds that some work takes."""
    print(f"bench: {what}", file=sys.stderr, flush=True)
    began = time.monotonic()
    work()
    return round(time.monotonic() - began, 1)


def plain(lock: Lock, folder: Path) -> None:
    """A root of the same packages by plain root mmdebstrap, and the same wheels by plain pip into it."""
    cache = Cache()
    repository, wheels = folder / "repository", folder / "wheels"
    repository.mkdir()
    wheels.mkdir()
    for artifact in artifacts_of([lock]):
        name = artifact.path.rsplit("/", 1)[-1]
        if name.endswith(".deb"):
            (repository / name).hardlink_to(cache.path(artifact.sha256))
        elif name.endswith(".whl"):
            (wheels / name).hardlink_to(cache.path(artifact.sha256))
    (repository / "Packages").write_text(run(["apt-ftparchive", "packages", "."], cwd=repository).stdout)
    release = run(
        ["apt-ftparchive", "-o", "APT::FTPArchive::Release::Suite=trixie", "release", "."], cwd=repository
    ).stdout
    (repository / "Release").write_text(release)
    root = folder / "root"
    run(
        [
            "mmdebstrap", "--mode=root", "--variant=apt", f"--include={','.join(one.name for one in lock.debian)}",
            "--skip=check/qemu", "--hook-dir=/usr/share/mmdebstrap/hooks/file-mirror-automount", "trixie", root,
            f"deb [trusted=yes] copy:{repository} ./",
        ],
        timeout=3600,
    )  # fmt: skip
    for env, content in lock.python.items():
        target = root / "opt" / env
        files = [wheels / wheel.file for wheel in content.wheels]
        run(
            [
                sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--target", target,
                "--python-version", "3.13", "--only-binary=:all:", "--no-compile",
                *(f"--platform={tag}_x86_64" for tag in PLATFORMS), *files,
            ],
            timeout=1800,
        )  # fmt: skip
        run(["chroot", root, "python3", "-m", "compileall", "-q", "-j0", f"/opt/{env}"], timeout=1800, check=False)


def main() -> int:
    """Measure, print JSON with seconds and ratios."""
    root = project_root()
    lock = load_matching(committed_path(root, IMAGE), inputs_of(root, IMAGE))
    found: dict[str, float] = {}
    with TemporaryDirectory(prefix="hubsmith-bench-", dir=Cache().folder.parent) as scratch:
        found["plain_seconds"] = timed("plain mmdebstrap and pip", lambda: plain(lock, Path(scratch)))
    found["cold_seconds"] = timed("cold build, toolchain included", lambda: nix.build(root, IMAGE, rebuild=True))
    found["unchanged_seconds"] = timed("build with nothing changed", lambda: nix.build(root, IMAGE))
    with TemporaryDirectory(prefix="hubsmith-bench-") as scratch:
        tree = Path(scratch) / "tree"
        for name in ("images", "modules", "nix", "src"):
            shutil.copytree(root / name, tree / name, symlinks=True)
        template = tree / "modules/nginx/templates/hub.conf.j2"
        template.write_text(template.read_text() + f"# {time.time()}\n")
        found["template_seconds"] = timed("build after one template changed", lambda: nix.build(tree, IMAGE))
    found["cold_ratio"] = round(found["cold_seconds"] / found["plain_seconds"], 2)
    found["template_ratio"] = round(found["template_seconds"] / found["cold_seconds"], 2)
    found["qcow2_mb"] = round((root / "out" / IMAGE / f"{IMAGE}.qcow2").stat().st_size / 1e6, 1)
    print(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
