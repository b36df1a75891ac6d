"""Time of a build, compared with plain mmdebstrap and pip for the same packages and wheels.

Both install and configure every locked Debian package, with an initrd, and install and compile every locked wheel. Only
hubsmith's time includes the toolchain's root, the sandbox, the npm tree, cleaning, EROFS with checksums of all files,
verity, the disk with two boot loaders, the compressed qcow2 and the SBOM. Only plain tools unpack manuals,
documentation and translations.
"""

from __future__ import annotations

import shlex
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from hubsmith.archives.cache import Cache
from hubsmith.build import nix
from hubsmith.lock import Lock, inputs_of
from hubsmith.lock.artifacts import artifacts_of
from hubsmith.lock.files import committed_path, load_matching
from hubsmith.output import Output
from hubsmith.run import run

IMAGE = "master"
PLATFORMS = ("manylinux_2_34", "manylinux_2_28", "manylinux_2_17", "manylinux2014")


def timed(what: str, work: Callable[[], object]) -> float:
    """Run a function and return the elapsed seconds."""
    print(f"bench: {what}", file=sys.stderr, flush=True)
    began = time.monotonic()
    work()
    seconds = round(time.monotonic() - began, 1)
    print(f"bench: {seconds} s", file=sys.stderr, flush=True)
    return seconds


def bootstrap(lock: Lock, folder: Path, hooks: Sequence[str] = ()) -> Path:
    """Install the locked packages with plain mmdebstrap, as root.

    :param folder: folder in which ``repository`` and ``root`` are created.
    :param hooks: shell commands to run at the end; ``$1`` is the root, with /dev and /proc mounted.
    :returns: the root.
    """
    repository, root = folder / "repository", folder / "root"
    gather(lock, repository, ".deb")
    (repository / "Packages").write_text(run(["apt-ftparchive", "packages", "."], cwd=repository).stdout)
    release = run(
        ["apt-ftparchive", "-o", "APT::FTPArchive::Release::Suite=trixie", "release", "."], cwd=repository
    ).stdout
    (repository / "Release").write_text(release)
    run(
        [
            "mmdebstrap", "--mode=root", "--variant=apt", f"--include={','.join(one.name for one in lock.debian)}",
            "--skip=check/qemu", *(f"--customize-hook={hook}" for hook in hooks), "trixie", root,
            f"deb [trusted=yes] copy:{repository} ./",
        ],
        timeout=3600,
    )  # fmt: skip
    return root


def gather(lock: Lock, folder: Path, suffix: str) -> None:
    """Link the fetched artifacts of one kind into a folder."""
    folder.mkdir()
    for artifact in artifacts_of([lock]):
        name = artifact.path.rsplit("/", 1)[-1]
        if name.endswith(suffix):
            (folder / name).hardlink_to(Cache().path(artifact.sha256))


def plain(lock: Lock, folder: Path) -> None:
    """Install the locked packages with plain mmdebstrap, and the locked wheels with plain pip."""
    wheels = folder / "wheels"
    gather(lock, wheels, ".whl")
    hooks = []
    for env, content in lock.python.items():
        command = [
            sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--python-version", "3.13",
            "--only-binary=:all:", "--no-compile", "--root-user-action=ignore",
            *(f"--platform={tag}_x86_64" for tag in PLATFORMS),
            *(str(wheels / wheel.file) for wheel in content.wheels),
        ]  # fmt: skip
        # compileall fails because some packages contain templates that are not valid Python. The rest must be compiled.
        hooks.append(
            f'{shlex.join(command)} --target "$1/opt/{env}"'
            f' && {{ chroot "$1" python3 -m compileall -q -j0 /opt/{env} >/dev/null'
            f' || test "$(find "$1/opt/{env}" -name "*.pyc" | wc -l)" -gt 1000; }}'
        )
    bootstrap(lock, folder, hooks)


def measure(root: Path) -> dict[str, float]:
    """Run the benchmark: seconds, ratios and sizes."""
    lock = load_matching(committed_path(root, IMAGE), inputs_of(root, IMAGE))
    found: dict[str, float] = {}
    with TemporaryDirectory(prefix="hubsmith-bench-", dir=Cache().folder.parent) as scratch:
        found["plain_seconds"] = timed("plain mmdebstrap and pip", lambda: plain(lock, Path(scratch)))
    found["cold_seconds"] = timed("cold build, toolchain included", lambda: nix.build(root, IMAGE, rebuild=True))
    found["unchanged_seconds"] = timed("build with nothing changed", lambda: nix.build(root, IMAGE))
    with TemporaryDirectory(prefix="hubsmith-bench-", dir=root / "out") as scratch:
        tree = Path(scratch) / "tree"
        for name in ("images", "modules", "nix", "src"):
            shutil.copytree(root / name, tree / name, symlinks=True)
        template = tree / "modules/nginx/templates/hub.conf.j2"
        template.write_text(template.read_text() + f"# {time.time()}\n")
        found["template_seconds"] = timed("build after one template changed", lambda: nix.build(tree, IMAGE))
    found["cold_to_plain"] = round(found["cold_seconds"] / found["plain_seconds"], 2)
    found["template_to_cold"] = round(found["template_seconds"] / found["cold_seconds"], 2)
    found["qcow2_mb"] = round(Output.of(root, IMAGE).disk.stat().st_size / 1e6, 1)
    return found
