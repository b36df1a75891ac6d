"""QEMU's command line.

QEMU runs in the machine's folder, so file names are relative to it. This keeps the paths of Unix sockets short.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hubsmith.vm.accel import OVMF_CODE, QEMU, Accelerator
from hubsmith.vm.hardware import Hardware

MONITOR = "qmp.sock"
#: Base name of two files: ``console.in``, the FIFO for input, and ``console.out``, a link to /dev/null.
CONSOLE = "console"
CONSOLE_LOG = "console.log"
AGENT = "agent.sock"
VARS = "vars.fd"
DISK = "disk.qcow2"


def volume_file(name: str) -> str:
    """File name of an additional disk."""
    return f"volume-{name}.qcow2"


@dataclass(frozen=True)
class Attachments:
    """Devices that a metadata source adds to the hardware.

    :ivar drives: file names of read-only raw images (ISO).
    :ivar smbios: fields of the SMBIOS system table, such as ``product``.
    :ivar network: network of the guest in CIDR notation; empty for QEMU's default (10.0.2.0/24).
    :ivar guest_forwards: ``address:port`` as seen by the guest, and the command that serves each connection.
    """

    drives: tuple[str, ...] = ()
    smbios: Mapping[str, str] = field(default_factory=dict)
    network: str = ""
    guest_forwards: Mapping[str, str] = field(default_factory=dict)


def mac(machine: str, nic: int) -> str:
    """Derive a MAC address from a machine's name, in QEMU's locally administered range."""
    digest = hashlib.sha256(f"{machine}/{nic}".encode()).digest()
    return "52:54:00:" + ":".join(f"{byte:02x}" for byte in digest[:3])


def comma(text: str) -> str:
    """Escape a value for a comma-separated option."""
    return text.replace(",", ",,")


def command(
    name: str,
    hardware: Hardware,
    accelerator: Accelerator,
    attachments: Attachments,
    ports: Mapping[int, int],
    *,
    origin: str,
    incoming: bool = False,
) -> list[str]:
    """Return QEMU's argument list.

    :param origin: machine whose saved state is restored, or ``name``. MAC addresses are derived from it. (A restored
        guest keeps its address until it reboots; then the command line decides.)
    :param ports: guest ports and their host ports; 0 lets the kernel choose.
    :param incoming: wait for a saved state instead of starting the firmware.
    """
    argv = [
        QEMU, "-name", comma(name), "-nodefaults", "-no-user-config",
        "-machine", "q35", *accelerator.arguments, "-m", str(hardware.memory_mb), "-smp", str(hardware.cpus),
        "-display", "none", "-rtc", "base=utc,clock=host",
        "-chardev", f"socket,id=monitor,path={MONITOR},server=on,wait=off", "-mon", "chardev=monitor,mode=control",
        "-chardev", f"pipe,id=console,path={CONSOLE},logfile={CONSOLE_LOG},logappend=on",
        "-serial", "chardev:console",
        "-device", "virtio-rng-pci",
        # A new ID makes the kernel of a restored guest reseed its random numbers, which clones must not share.
        "-device", "vmgenid,guid=auto",
        # Clouds provide a port for the guest agent, whether or not anything is connected to it.
        "-chardev", f"socket,id=agent,path={AGENT},server=on,wait=off",
        "-device", "virtio-serial-pci", "-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0",
    ]  # fmt: skip
    if hardware.firmware == "uefi":
        argv += ["-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={OVMF_CODE}"]
        argv += ["-drive", f"if=pflash,unit=1,format=raw,file={VARS},cache=unsafe"]
    if hardware.display:
        argv += ["-device", "VGA,vgamem_mb=16"]
    argv += _disks(hardware, attachments.drives)
    argv += _network(origin, hardware, attachments, ports)
    if attachments.smbios:
        fields = [f"{key}={comma(value)}" for key, value in attachments.smbios.items()]
        argv += ["-smbios", ",".join(["type=1", *fields])]
    argv += hardware.extra
    return [*argv, "-incoming", "defer"] if incoming else argv


def _disks(hardware: Hardware, drives: Sequence[str]) -> list[str]:
    cache = "writeback" if hardware.durable else "unsafe"
    options = f"format=qcow2,cache={cache},discard=unmap"
    sector = f"logical_block_size={hardware.sector_size},physical_block_size={hardware.sector_size}"
    device = {
        "virtio-blk": "virtio-blk-pci,drive=disk,serial=system",
        "virtio-scsi": "scsi-hd,drive=disk,bus=scsi.0,serial=system",
        "nvme": "nvme,drive=disk,serial=system",
    }[hardware.disk_bus]
    # Boot index 0 is left for a kernel that QEMU loads itself (`-kernel`).
    argv = ["-device", "virtio-scsi-pci,id=scsi"] if hardware.disk_bus == "virtio-scsi" else []
    argv += ["-drive", f"if=none,id=disk,file={DISK},{options}", "-device", f"{device},{sector},bootindex=1"]
    for volume in hardware.volumes:
        file = comma(volume_file(volume.name))
        argv += ["-drive", f"if=none,id=volume-{volume.name},file={file},{options}"]
        argv += ["-device", f"virtio-blk-pci,drive=volume-{volume.name},serial={volume.name}"]
    for number, drive in enumerate(drives):
        argv += ["-drive", f"if=none,id=drive{number},file={comma(drive)},format=raw,readonly=on"]
        argv += ["-device", f"virtio-blk-pci,drive=drive{number}"]
    return argv


def lan_sockets(nic: str) -> tuple[str, str]:
    """File names of a NIC's two datagram sockets: QEMU's and the switch's."""
    return f"{nic}.sock", f"{nic}.lan.sock"


def _dgram(nic: str) -> str:
    ours, theirs = lan_sockets(nic)
    return f"dgram,id={nic},local.type=unix,local.path={ours},remote.type=unix,remote.path={theirs}"


def _network(origin: str, hardware: Hardware, attachments: Attachments, ports: Mapping[int, int]) -> list[str]:
    # No IPv6: QEMU's leads nowhere, and guests would try it first.
    nat = ["user", "ipv6=off", f"restrict={'off' if hardware.outbound else 'on'}"]
    nat += [f"net={attachments.network}"] if attachments.network else []
    nat += [f"hostfwd=tcp:127.0.0.1:{host}-:{guest}" for guest, host in sorted(ports.items())]
    nat += [f"guestfwd=tcp:{place}-cmd:{comma(line)}" for place, line in attachments.guest_forwards.items()]
    argv = ["-netdev", ",".join([*nat, "id=net0"])]
    for number, _ in enumerate(hardware.lans, start=1):
        argv += ["-netdev", _dgram(f"net{number}")]
    for number in range(len(hardware.lans) + 1):
        # No boot ROM: nothing boots from the network, and loading a ROM takes seconds under emulation.
        argv += ["-device", f"virtio-net-pci,id=nic{number},netdev=net{number},mac={mac(origin, number)},romfile="]
    return argv
