"""The static busybox that bootstraps the toolchain."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from debian.debfile import DebFile

from hubsmith.errors import LockError
from hubsmith.lock.models import DebianPackage
from hubsmith.run import run

PACKAGE = "busybox-static"


def package(packages: Iterable[DebianPackage]) -> DebianPackage:
    """Find the package that contains busybox.

    :raises LockError: the toolchain has no such package.
    """
    for one in packages:
        if one.name == PACKAGE:
            return one
    raise LockError(f"the toolchain has no {PACKAGE}", where="nix/tools.toml", hint=f'add "{PACKAGE}" to it')


def extract(deb: Path, target: Path) -> None:
    """Extract busybox from a `.deb` to `<target>/bin/busybox` (mode 0555).

    The target is a folder because busybox acts on the name it is called by, and the name of a store path starts with a
    hash.

    :raises LockError: the package does not contain `bin/busybox`.
    """
    with DebFile(str(deb)) as opened:
        for name in opened.data:
            if PurePosixPath(name).match("bin/busybox"):
                content = opened.data.get_content(name)
                assert isinstance(content, bytes)
                executable = target / "bin" / "busybox"
                executable.parent.mkdir(parents=True)
                executable.write_bytes(content)
                executable.chmod(0o555)
                return
    raise LockError("the package holds no bin/busybox", where=deb.name)


def nar_sha256(folder: Path) -> str:
    """Return the SHA-256 (hex) of a folder's Nix archive (NAR)."""
    return run(["nix-hash", "--type", "sha256", folder]).stdout.strip()
