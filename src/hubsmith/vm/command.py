"""QEMU's command line.

QEMU runs inside the machine's folder, so all names here are relative to it (and a unix socket's name stays short).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hubsmith.vm.accel import OVMF_CODE, QEMU, Accelerator
from hubsmith.vm.hardware import Hardware

MONITOR = "qmp.sock"
#: Stands for two files: ``console.in``, a FIFO that is typed into, and ``console.out``, which leads to /dev/null.
CONSOLE = "console"
CONSOLE_LOG = "console.log"
AGENT = "agent.sock"
VARS = "vars.fd"
DISK = "disk.qcow2"


def volume_file(name: str) -> str:
    """The file of a further disk."""
    return f"volume-{name}.qcow2"


@dataclass(frozen=True)
class Attachments:
    """What the metadata source adds to the hardware.

    :ivar drives: read-only raw images (ISO), by file name.
    :ivar smbios: fields of the SMBIOS system table, such as ``product``.
    :ivar network: the guest's network in CIDR notation; empty for QEMU's own (10.0.2.0/24).
    :ivar guest_forwards: ``address:port`` that the guest connects to, and the command that answers each connection.
    """

    drives: tuple[str, ...] = ()
    smbios: Mapping[str, str] = field(default_factory=dict)
    network: str = ""
    guest_forwards: Mapping[str, str] = field(default_factory=dict)


def mac(machine: str, nic: int) -> str:
    """A MAC address that follows from the machine's name, in QEMU's range of locally administered ones."""
    digest = hashlib.sha256(f"{machine}/{nic}".encode()).digest()
    return "52:54:00:" + ":".join(f"{byte:02x}" for byte in digest[:3])


def comma(text: str) -> str:
    """A value inside a comma-separated option."""
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
    """The argument list.

    :param origin: the machine that it goes on from, or itself: the addresses of its NICs follow from that name.
        (An address in a restored state holds until the guest reboots; then it is what the command line says.)
    :param ports: guest port to host port, 0 for any.
    :param incoming: wait for a machine's state instead of starting the firmware.
    """
    argv = [
        QEMU, "-name", comma(name), "-nodefaults", "-no-user-config",
        "-machine", "q35", *accelerator.arguments, "-m", str(hardware.memory_mb), "-smp", str(hardware.cpus),
        "-display", "none", "-rtc", "base=utc,clock=host",
        "-chardev", f"socket,id=monitor,path={MONITOR},server=on,wait=off", "-mon", "chardev=monitor,mode=control",
        "-chardev", f"pipe,id=console,path={CONSOLE},logfile={CONSOLE_LOG},logappend=on",
        "-serial", "chardev:console",
        "-device", "virtio-rng-pci",
        # A changed id tells a restored guest's kernel to renew its random numbers: clones must not share them.
        "-device", "vmgenid,guid=auto",
        # As in a cloud: the guest agent's port is there, and nobody need be at its other end.
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
    # Number 0 is for a kernel that QEMU loads itself (`-kernel`).
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
    """The names of a NIC's two datagram sockets: QEMU's and the network's."""
    return f"{nic}.sock", f"{nic}.lan.sock"


def _dgram(nic: str) -> str:
    ours, theirs = lan_sockets(nic)
    return f"dgram,id={nic},local.type=unix,local.path={ours},remote.type=unix,remote.path={theirs}"


def _network(origin: str, hardware: Hardware, attachments: Attachments, ports: Mapping[int, int]) -> list[str]:
    # Without IPv6, since QEMU's leads nowhere and a guest would try it first.
    nat = ["user", "ipv6=off", f"restrict={'off' if hardware.outbound else 'on'}"]
    nat += [f"net={attachments.network}"] if attachments.network else []
    nat += [f"hostfwd=tcp:127.0.0.1:{host}-:{guest}" for guest, host in sorted(ports.items())]
    nat += [f"guestfwd=tcp:{place}-cmd:{comma(line)}" for place, line in attachments.guest_forwards.items()]
    argv = ["-netdev", ",".join([*nat, "id=net0"])]
    for number, _ in enumerate(hardware.lans, start=1):
        argv += ["-netdev", _dgram(f"net{number}")]
    for number in range(len(hardware.lans) + 1):
        # No boot ROM: nothing boots from the network, and loading it costs seconds under emulation.
        argv += ["-device", f"virtio-net-pci,id=nic{number},netdev=net{number},mac={mac(origin, number)},romfile="]
    return argv
