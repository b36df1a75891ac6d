"""Disk files: overlays over an image, which is never written.

A simulated power cut (:meth:`hubsmith.vm.machine.VirtualMachine.crash`) kills QEMU with SIGKILL. The guest's page cache
is lost, and so are writes to new clusters whose qcow2 tables QEMU has not written yet. Acknowledged flushes survive,
even with ``cache=unsafe``: QEMU still writes its tables to the host's kernel at every flush (``bdrv_co_flush`` calls
``bdrv_co_flush_to_os`` first). It only skips ``fdatasync``, which protects against a crash of the host. Therefore
tests use ``unsafe`` and deployments ``writeback``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hubsmith import files
from hubsmith.errors import HarnessFailed, HubsmithError
from hubsmith.run import CommandFailed, run

GIB = 1024**3


def virtual_size(image: Path) -> int:
    """Return the virtual size in bytes of a disk image.

    :raises HubsmithError: the file does not exist or is not a disk image.
    """
    return int(_info(image)["virtual-size"])


def _info(image: Path) -> dict[str, Any]:
    if not image.is_file():
        raise HubsmithError("there is no such disk image", where=str(image), hint="hubsmith build")
    # Give the format explicitly: a guest could write a header that makes QEMU's probing open another file.
    kind = "qcow2" if image.open("rb").read(4) == b"QFI\xfb" else "raw"
    # -U: a running machine may have locked the file.
    out = run(["qemu-img", "info", "-U", "-f", kind, "--output=json", image], timeout=60).stdout
    return dict(json.loads(out))


def overlay(backing: Path, target: Path, size_gb: float | None = None) -> None:
    """Create a writable overlay over an image.

    :param size_gb: virtual size in GiB; by default the image's.
    :raises HubsmithError: the image is larger than that, or is not a disk image.
    """
    info = _info(backing)
    size = [] if size_gb is None else [str(round(size_gb * GIB))]
    if size and int(size[0]) < int(info["virtual-size"]):
        have = int(info["virtual-size"]) / GIB
        raise HubsmithError(f"a disk of {size_gb:g} GiB is smaller than the image ({have:.1f} GiB)", where=str(backing))
    _create(target, ["-b", str(backing.resolve()), "-F", str(info["format"])], size)


def rebase(layer: Path, backing: str) -> None:
    """Let a layer find its image under another name, which leads to the same bytes.

    :param backing: relative to the layer.
    """
    kind = str(_info(layer)["backing-filename-format"])
    run(["qemu-img", "rebase", "-u", "-f", "qcow2", "-b", backing, "-F", kind, layer], timeout=60)


def blank(target: Path, size_gb: float) -> None:
    """Create an empty disk of ``size_gb`` GiB."""
    _create(target, [], [str(round(size_gb * GIB))])


def _create(target: Path, options: list[str], size: list[str]) -> None:
    # Rename when complete, so that an interrupted start can be repeated.
    partial = target.with_suffix(".part")
    try:
        run(["qemu-img", "create", "-q", "-f", "qcow2", *options, partial, *size], timeout=60)
    except CommandFailed as error:
        raise HarnessFailed(f"cannot create a disk: {error}") from error
    files.settle(partial, target)
