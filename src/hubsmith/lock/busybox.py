"""The one static executable that starts the toolchain."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from debian.debfile import DebFile

from hubsmith.errors import LockError
from hubsmith.lock.models import DebianPackage
from hubsmith.run import run

PACKAGE = "busybox-static"


def package(packages: Iterable[DebianPackage]) -> DebianPackage:
    """The package that holds it.

    :raises LockError: the toolchain has no such package.
    """
    for one in packages:
        if one.name == PACKAGE:
            return one
    raise LockError(f"the toolchain has no {PACKAGE}", where="nix/tools.toml", mend=f'add "{PACKAGE}" to it')


def extract(deb: Path, target: Path) -> None:
    """Write the executable of a `.deb` to `<target>/bin/busybox` (mode 0555).

    A folder, because busybox goes by the name that it is called by, and a store path's own name starts with a hash.

    :raises LockError: the package holds no `bin/busybox`.
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
    """The checksum (hex) of a folder's serialisation as a Nix archive."""
    return run(["nix-hash", "--type", "sha256", folder]).stdout.strip()
