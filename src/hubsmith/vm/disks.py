"""Disk files: overlays over the exact image, which is never written.

What a power cut means (:meth:`hubsmith.vm.machine.VirtualMachine.crash` kills QEMU with SIGKILL): the guest's page
cache is gone, and so are writes to new clusters whose qcow2 tables QEMU had not yet written. A flush that was
acknowledged survives, with ``cache=unsafe`` also: QEMU still writes its tables to the host's kernel at every flush
(``bdrv_co_flush`` calls ``bdrv_co_flush_to_os`` first) and leaves out only the ``fdatasync``, which protects against
a crash of the host. So tests use ``unsafe``, deployments ``writeback``.
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
    """The size in bytes of the disk that an image file holds.

    :raises HubsmithError: there is no such file, or it is no disk image.
    """
    return int(_info(image)["virtual-size"])


def _info(image: Path) -> dict[str, Any]:
    if not image.is_file():
        raise HubsmithError("there is no such disk image", where=str(image), mend="hubsmith build")
    # Without the format it would be probed, and a guest could write a header that leads elsewhere.
    kind = "qcow2" if image.open("rb").read(4) == b"QFI\xfb" else "raw"
    # -U: a running machine may hold the file.
    out = run(["qemu-img", "info", "-U", "-f", kind, "--output=json", image], timeout=60).stdout
    return dict(json.loads(out))


def overlay(backing: Path, target: Path, size_gb: float | None = None) -> None:
    """Make a writable layer over an image.

    :param size_gb: size in GiB that the guest sees; by default the image's.
    :raises HubsmithError: the image is larger than that, or is no image.
    """
    info = _info(backing)
    size = [] if size_gb is None else [str(round(size_gb * GIB))]
    if size and int(size[0]) < int(info["virtual-size"]):
        have = int(info["virtual-size"]) / GIB
        raise HubsmithError(f"a disk of {size_gb:g} GiB is smaller than the image ({have:.1f} GiB)", where=str(backing))
    _create(target, ["-b", str(backing.resolve()), "-F", str(info["format"])], size)


def blank(target: Path, size_gb: float) -> None:
    """Make an empty disk."""
    _create(target, [], [str(round(size_gb * GIB))])


def _create(target: Path, options: list[str], size: list[str]) -> None:
    # As a whole or not at all: an interrupted start is simply repeated.
    partial = target.with_suffix(".part")
    try:
        run(["qemu-img", "create", "-q", "-f", "qcow2", *options, partial, *size], timeout=60)
    except CommandFailed as error:
        raise HarnessFailed(f"a disk could not be made: {error}") from error
    files.settle(partial, target)
