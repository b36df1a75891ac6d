"""Add artifacts to the Nix store as fixed-output paths, so that Nix downloads nothing."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from hubsmith.errors import FetchError
from hubsmith.run import run

_ALPHABET = "0123456789abcdfghijklmnpqrsvwxyz"


def store_dir() -> str:
    """Return the folder of the store."""
    return os.environ.get("NIX_STORE_DIR", "/nix/store")


def fixed_path(sha256: str, name: str, *, recursive: bool = False) -> str:
    """Return the store path of a file with a known checksum, like `nix-store --print-fixed-path sha256`.

    That command takes only one file per call. The scheme is in the Nix manual, "Store path".

    :param sha256: SHA-256 (hex) of the file, or with ``recursive`` of its Nix archive (NAR).
    :param name: name of the store path, without the hash.
    """
    if recursive:
        kind, inner = "source", sha256
    else:
        kind, inner = "output:out", hashlib.sha256(f"fixed:out:sha256:{sha256}:".encode()).hexdigest()
    digest = hashlib.sha256(f"{kind}:sha256:{inner}:{store_dir()}:{name}".encode()).digest()
    folded = bytearray(20)
    for index, byte in enumerate(digest):
        folded[index % 20] ^= byte
    number = int.from_bytes(folded, "little")
    return f"{store_dir()}/{''.join(_ALPHABET[(number >> shift) & 31] for shift in range(155, -1, -5))}-{name}"


def insist_usable() -> None:
    """Check that this user can add to the store, directly or through a daemon.

    :raises FetchError: the user can do neither.
    """
    state = Path(os.environ.get("NIX_STATE_DIR", "/nix/var/nix"))
    socket = state / "daemon-socket" / "socket"
    # Before the first build the folders do not exist. Nix creates them if it has permission.
    first = next(folder for folder in (state / "db", *state.parents) if folder.exists())
    if not os.access(first, os.W_OK) and not os.access(socket, os.W_OK):
        raise FetchError(
            "you can neither write to the Nix store nor reach a Nix daemon",
            where=str(socket),
            hint="run as root, or install a daemon: docs/contributing/getting-started.md, section “As a normal user”",
        )


def invalid(paths: Sequence[str]) -> set[str]:
    """Return the paths that are not valid in the store, with one call for all."""
    if not paths:
        return set()
    insist_usable()
    done = run(["nix-store", "--check-validity", "--print-invalid", *paths])
    return set(done.stdout.split())


def add(files: Mapping[str, Path]) -> dict[str, str]:
    """Add files as fixed outputs, many per call.

    :param files: files by expected store path. Temporary hard links are created next to them.
    :returns: actual store paths by expected path.
    """
    made: dict[str, str] = {}
    batch = sorted(files.items())
    for first in range(0, len(batch), 500):
        some = batch[first : first + 500]
        with TemporaryDirectory(prefix=".add-", dir=some[0][1].parent) as folder:
            links = []
            for number, (path, file) in enumerate(some):
                link = Path(folder) / str(number) / path.removeprefix(store_dir() + "/")[33:]
                link.parent.mkdir()
                # The store path gets the file's name. A symbolic link would be added as a link.
                os.link(file, link)
                links.append(link)
            printed = run(["nix-store", "--add-fixed", "sha256", *links]).stdout.split()
        if len(printed) != len(some):
            raise FetchError(f"nix-store added {len(printed)} of {len(some)} files", where="nix-store --add-fixed")
        made.update(dict(zip((path for path, _ in some), printed, strict=True)))
    return made


def add_folder(folder: Path) -> str:
    """Add a folder as a recursive fixed output under its own name.

    :returns: store path.
    """
    return run(["nix-store", "--add-fixed", "--recursive", "sha256", folder]).stdout.strip()
