"""What a machine is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Firmware = Literal["uefi", "bios"]
DiskBus = Literal["virtio-blk", "virtio-scsi", "nvme"]


@dataclass(frozen=True)
class Volume:
    """A further disk, blank at first.

    :ivar name: the drive's serial number in the guest (``/dev/disk/by-id/*_NAME``).
    :ivar size_gb: in GiB.
    """

    name: str
    size_gb: float


@dataclass(frozen=True)
class Hardware:
    """A machine's hardware; all of it has a default.

    :ivar memory_mb: in MiB.
    :ivar cpus: processors.
    :ivar firmware: ``uefi`` (OVMF, with variables of its own) or ``bios`` (SeaBIOS).
    :ivar disk_size_gb: size in GiB of the disk that the guest sees; by default that of the image. A machine never
        has a smaller disk than its image.
    :ivar disk_bus: where the system disk hangs: ``virtio-scsi`` is what Jetstream2 sets for images.
    :ivar sector_size: of the system disk, in bytes: 512 or 4096.
    :ivar volumes: further disks.
    :ivar forwards: guest port to port on the host's 127.0.0.1; 0 lets the kernel choose a free one.
    :ivar outbound: the guest reaches the host (as ``10.0.2.2``) and what lies beyond it. Without it, only the
        forwards and the metadata service work.
    :ivar lans: names of private networks between machines (:class:`hubsmith.vm.lan.Lan`): one more NIC for each.
    :ivar display: a graphics adapter, for screenshots.
    :ivar durable: flushes of the guest reach the host's disk. Off for tests: a power cut of a *machine* loses nothing
        that the host's kernel has (see :mod:`hubsmith.vm.disks`).
    :ivar extra: further options of QEMU, as they are.
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
