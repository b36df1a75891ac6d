"""Stage `npm-<env>`: one tar of the locked npm packages, unpacked at their locations below /opt/<env>.

No install scripts run. Apart from these, npm itself would only unpack the tarballs, too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path


def unpack(tarball: Path, target: Path) -> None:
    """Unpack one package without the first path component (mostly ``package/``). Links are errors."""
    with tarfile.open(tarball, "r:gz") as tar:
        for member in tar:
            parts = Path(member.name).parts[1:]
            if not parts or member.isdir():
                continue
            if not member.isfile() or ".." in parts:
                raise SystemExit(f"{tarball.name}: unexpected member {member.name}")
            path = target.joinpath(*parts)
            path.parent.mkdir(parents=True, exist_ok=True)
            content = tar.extractfile(member)
            assert content is not None
            path.write_bytes(content.read())
            path.chmod(0o755 if member.mode & 0o111 else 0o644)


def main() -> None:
    """Read the specification, write the tar to ``$out``."""
    spec = json.loads(Path(sys.argv[1]).read_text())
    env = Path("/opt") / spec["env"]
    (env / "bin").mkdir(parents=True)
    for package in spec["packages"]:
        home = env / package["location"]
        unpack(Path(package["store"]), home)
        if package["location"].count("node_modules/") == 1:
            for command, script in sorted(package["bin"].items()):
                (home / script).chmod(0o755)
                (env / "bin" / command).symlink_to(Path("..") / package["location"] / script)
    subprocess.run(
        [
            "tar", "--create", f"--file={os.environ['out']}", "--directory=/", "--sort=name", "--owner=0", "--group=0",
            "--numeric-owner", f"--mtime=@{os.environ['SOURCE_DATE_EPOCH']}", "--format=pax",
            "--pax-option=delete=atime,delete=ctime", f"opt/{spec['env']}",
        ],
        check=True,
    )  # fmt: skip


if __name__ == "__main__":
    main()
