"""Installation of GRUB for BIOS in a disk file.

`grub-bios-setup` requires a block device and a mounted file system. Therefore this module writes the same data itself:
the boot sector (without the partition table) with the address of the core image, and the core image with the address of
its remaining sectors. The offsets are from GRUB's ``include/grub/i386/pc/boot.h`` and ``include/grub/offsets.h``.
"""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

MODULES = Path("/usr/lib/grub/i386-pc")
SECTOR = 512

# GRUB_BOOT_MACHINE_*: offsets of the address of the core image's first sector, and of the boot drive check, which an
# installation on a hard disk replaces by two NOPs.
KERNEL_SECTOR_OFFSET = 0x5C
DRIVE_CHECK_OFFSET = 0x66
BOOT_CODE_END = 0x1B8  # the disk signature and the protective MBR's partition table follow

# The core image's first sector ends with the list of blocks to load: start (u64), length (u16), segment (u16).
BLOCK_LIST_OFFSET = SECTOR - 12
LOAD_SEGMENT = 0x820

CONFIG = """\
serial --unit=0 --speed=115200
terminal_input serial console
terminal_output serial console
search --no-floppy --set=root --file /grub/grub.cfg
configfile /grub/grub.cfg
"""


def core_image(out: Path, scratch: Path) -> None:
    """Create GRUB's core image with an embedded configuration."""
    config = scratch / "grub-early.cfg"
    config.write_text(CONFIG)
    subprocess.run(
        [
            "grub-mkimage", "--format=i386-pc", f"--directory={MODULES}", "--prefix=/grub", f"--config={config}",
            f"--output={out}", "biosdisk", "part_gpt", "fat", "search", "search_fs_file", "configfile", "normal",
            "linux", "echo", "serial", "terminal", "boot",
        ],
        check=True,
    )  # fmt: skip


def install(disk: Path, start: int, size: int, scratch: Path) -> None:
    """Write GRUB into ``disk``.

    :param start: first byte of the BIOS boot partition.
    :param size: its size in bytes.
    :raises SystemExit: the core image does not fit.
    """
    core = scratch / "core.img"
    core_image(core, scratch)
    rest = bytearray(core.read_bytes())
    if len(rest) > size:
        raise SystemExit(f"GRUB's core image has {len(rest)} bytes, the BIOS boot partition {size}")
    first = start // SECTOR
    sectors = (len(rest) + SECTOR - 1) // SECTOR
    struct.pack_into("<QHH", rest, BLOCK_LIST_OFFSET, first + 1, sectors - 1, LOAD_SEGMENT)

    boot = bytearray((MODULES / "boot.img").read_bytes()[:BOOT_CODE_END])
    struct.pack_into("<Q", boot, KERNEL_SECTOR_OFFSET, first)
    boot[DRIVE_CHECK_OFFSET : DRIVE_CHECK_OFFSET + 2] = b"\x90\x90"

    with disk.open("r+b") as file:
        file.write(boot)
        file.seek(start)
        file.write(rest)
