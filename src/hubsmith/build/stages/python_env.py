"""Stage `python-<env>`: one tar of a virtual environment at /opt/<env> with the locked wheels.

The toolchain and the image are from the same Debian release, so they have the same interpreter. The .pyc files have
unchecked hashes instead of timestamps (PEP 552), because the root is read-only.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

#: Number of processes. It is fixed, because the result depends on it.
SHARES = 4


def install(env: str, wheels: list[dict[str, str]]) -> None:
    """Create the environment at its final path, so that scripts name the right interpreter."""
    target = Path("/opt") / env
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "--symlinks", target], check=True)
    folder = Path("/build/wheels")
    folder.mkdir()
    for wheel in wheels:
        (folder / wheel["file"]).symlink_to(wheel["store"])
    subprocess.run(
        [
            sys.executable, "-m", "pip", "--python", target / "bin/python", "install", "--no-index", "--no-deps",
            "--no-compile", "--no-cache-dir", "--disable-pip-version-check", "--root-user-action=ignore", "--quiet",
            *sorted(folder.iterdir()),
        ],
        check=True,
    )  # fmt: skip
    for activate in target.glob("bin/[Aa]ctivate*"):
        activate.unlink()
    # RECORD lists .pyc files of the installation, and direct_url.json names a folder of this build.
    for leftover in [*target.rglob("direct_url.json"), *target.rglob("REQUESTED")]:
        leftover.unlink()
    compile_all(target / "bin/python", target / "lib")


def compile_all(python: Path, folder: Path) -> None:
    """Compile every module below a folder, in several processes with fixed shares of the files.

    The marshalled bytes depend on what an interpreter compiled before (which constants it takes for shared). With
    `compileall -j` the next free process takes the next file. Then two files of ten thousand differed between builds.
    """
    files = sorted(str(path) for path in folder.rglob("*.py"))
    running = []
    for share in range(SHARES):
        names = Path(f"/build/compile-{share}")
        names.write_text("\n".join(files[share::SHARES]) + "\n")
        argv: list[str | Path] = [python, "-m", "compileall", "-q", "--invalidation-mode=unchecked-hash", "-i", names]
        running.append(subprocess.Popen(argv, env={**os.environ, "PYTHONHASHSEED": "0"}))
    for process in running:
        process.wait()  # packages contain templates and tests that are not valid Python; these stay uncompiled


def pack(env: str, out: Path) -> None:
    """Write one tar with sorted names, owner root, and limited timestamps."""
    subprocess.run(
        [
            "tar", "--create", f"--file={out}", "--directory=/", "--sort=name", "--owner=0", "--group=0",
            "--numeric-owner", f"--mtime=@{os.environ['SOURCE_DATE_EPOCH']}", "--format=pax",
            "--pax-option=delete=atime,delete=ctime",
            f"opt/{env}",
        ],
        check=True,
    )  # fmt: skip


def main() -> None:
    """Read the specification, write the tar to ``$out``."""
    spec = json.loads(Path(sys.argv[1]).read_text())
    install(spec["env"], spec["wheels"])
    pack(spec["env"], Path(os.environ["out"]))


if __name__ == "__main__":
    main()
