"""Stage `python-<env>`: locked wheels as a virtual environment at /opt/<env>, as one tar.

The tools root and the image come from one Debian release, so the interpreter that compiles here is the one that
runs there. The .pyc files carry hashes instead of times (PEP 552), unchecked: the root is read-only.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

#: A fixed number, whatever the machine has: it is part of the result.
SHARES = 4


def install(env: str, wheels: list[dict[str, str]]) -> None:
    """Make the environment at its final path, so that scripts carry the right interpreter."""
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
    # A RECORD lists the .pyc files of its own installation; direct_url.json names the folder of this build.
    for leftover in [*target.rglob("direct_url.json"), *target.rglob("REQUESTED")]:
        leftover.unlink()
    compile_all(target / "bin/python", target / "lib")


def compile_all(python: Path, folder: Path) -> None:
    """Compile every module below a folder, by several processes of which each has the same share every time.

    What an interpreter compiled before shows in the marshalled bytes (which constants it thinks shared). With
    `compileall -j`, whichever process is free takes the next file: two files of ten thousand differed between builds.
    """
    files = sorted(str(path) for path in folder.rglob("*.py"))
    running = []
    for share in range(SHARES):
        names = Path(f"/build/compile-{share}")
        names.write_text("\n".join(files[share::SHARES]) + "\n")
        argv: list[str | Path] = [python, "-m", "compileall", "-q", "--invalidation-mode=unchecked-hash", "-i", names]
        running.append(subprocess.Popen(argv, env={**os.environ, "PYTHONHASHSEED": "0"}))
    for process in running:
        process.wait()  # templates and tests of packages may hold files that are no valid Python: they stay uncompiled


def pack(env: str, out: Path) -> None:
    """One tar with sorted names, root's ownership and a clamped time."""
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
