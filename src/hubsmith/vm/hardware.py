"""Description of a machine's hardware."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Firmware = Literal["uefi", "bios"]
DiskBus = Literal["virtio-blk", "virtio-scsi", "nvme"]


@dataclass(frozen=True)
class Volume:
    """Additional disk, initially blank.

    :ivar name: serial number of the drive in the guest (``/dev/disk/by-id/*_NAME``).
    :ivar size_gb: size in GiB.
    """

    name: str
    size_gb: float


@dataclass(frozen=True)
class Hardware:
    """Hardware of a machine.

    :ivar memory_mb: memory in MiB.
    :ivar cpus: number of processors.
    :ivar firmware: ``uefi`` (OVMF, with its own variables) or ``bios`` (SeaBIOS).
    :ivar disk_size_gb: size of the system disk in GiB; by default that of the image, and never less.
    :ivar disk_bus: bus of the system disk. Jetstream2 sets ``virtio-scsi``.
    :ivar sector_size: sector size of the system disk in bytes: 512 or 4096.
    :ivar volumes: additional disks.
    :ivar forwards: guest ports and their ports on the host's 127.0.0.1; 0 lets the kernel choose.
    :ivar outbound: whether the guest reaches the host (at ``10.0.2.2``) and networks beyond it. Forwarded ports and
        the metadata service work either way.
    :ivar lans: names of private networks (:class:`hubsmith.vm.lan.Lan`), with one additional NIC each.
    :ivar display: whether there is a graphics adapter, for screenshots.
    :ivar durable: whether flushes of the guest reach the host's disk. Not needed in tests: a power cut of a machine
        loses nothing that the host's kernel has received (see :mod:`hubsmith.vm.disks`).
    :ivar extra: additional options for QEMU.
    """

    memory_mb: int = 3072
    cpus: int = 2
    firmware: Firmware = "uefi"
    disk_size_gb: float | None = None
    disk_bus: DiskBus = "virtio-blk"
    sector_size: int = 512
    volumes: tuple[Volume, ...] = ()
    forwards: Mapping[int, int] = field(default_factory=lambda: {22: 0, 80: 0, 443: 0})
    outbound: bool = True
    lans: tuple[str, ...] = ()
    display: bool = True
    durable: bool = False
    extra: tuple[str, ...] = ()
