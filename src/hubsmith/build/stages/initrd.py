"""Stage `initrd`: the kernel, and a reproducible initrd that dracut makes inside the packages' root.

Output: a folder with ``vmlinuz``, ``initrd`` and ``version``.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path("/build/root")


def unpack(tar: Path) -> None:
    """Unpack the packages. Owners are not preserved, because all files of an initrd belong to root."""
    ROOT.mkdir()
    subprocess.run(
        ["tar", "--extract", f"--file={tar}", f"--directory={ROOT}", "--no-same-owner",
         "--no-same-permissions", "--exclude=./dev/*", "--exclude=./proc/*"],
        check=True,
    )  # fmt: skip
    for name in ("dev", "proc"):
        subprocess.run(["mount", "--rbind", f"/{name}", ROOT / name], check=True)


def make(dracut: Path, out: Path) -> None:
    """Run dracut in the root, with the configuration and the module in modules/boot/dracut."""
    versions = sorted(path.name for path in (ROOT / "usr/lib/modules").iterdir())
    if len(versions) != 1:
        raise SystemExit(f"expected one kernel in the packages, found {versions}")
    version = versions[0]
    shutil.copytree(dracut / "90hubsmith", ROOT / "usr/lib/dracut/modules.d/90hubsmith")
    shutil.copy(dracut / "dracut.conf", ROOT / "tmp/dracut.conf")
    (ROOT / "tmp/no-more").mkdir()  # dracut requires a folder of further configuration; it is empty
    # dracut reads modules from the root, and copies the modes. Files from the store are read-only.
    for path in (ROOT / "usr/lib/dracut/modules.d/90hubsmith").iterdir():
        path.chmod(0o644 if path.suffix in (".service", ".conf") else 0o755)
    subprocess.run(
        ["chroot", ROOT, "dracut", "--conf", "/tmp/dracut.conf", "--confdir", "/tmp/no-more", "--tmpdir", "/tmp",
         "--force", "--kver", version, "/tmp/initrd"],
        check=True, env={**os.environ, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
    )  # fmt: skip
    out.mkdir()
    shutil.copyfile(ROOT / "tmp/initrd", out / "initrd")
    shutil.copyfile(ROOT / f"boot/vmlinuz-{version}", out / "vmlinuz")
    (out / "version").write_text(version + "\n")


def main() -> None:
    """Read the specification, write the folder to ``$out``."""
    spec = json.loads(Path(sys.argv[1]).read_text())
    unpack(Path(spec["packages"]))
    make(Path(spec["dracut"]), Path(os.environ["out"]))


if __name__ == "__main__":
    main()
