"""The unified kernel image, and the files of the EFI system partition that boot it by UEFI and BIOS."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

STUB = Path("/usr/lib/systemd/boot/efi/linuxx64.efi.stub")
BOOT_MANAGER = Path("/usr/lib/systemd/boot/efi/systemd-bootx64.efi")


def make(kernel: Path, cmdline: str, title: str, version: str, out: Path) -> None:
    """Create a unified kernel image of kernel, initrd and command line.

    :param kernel: folder of the stage `initrd` (``vmlinuz``, ``initrd``, ``version``).
    :param cmdline: kernel command line with the root hash.
    """
    release = f'ID=hubsmith\nNAME="{title}"\nPRETTY_NAME="{title}"\nVERSION_ID={version}\n'
    subprocess.run(
        [
            "ukify", "build", f"--stub={STUB}", f"--linux={kernel / 'vmlinuz'}", f"--initrd={kernel / 'initrd'}",
            f"--cmdline={cmdline}", f"--os-release={release}", f"--uname={(kernel / 'version').read_text().strip()}",
            f"--output={out}",
        ],
        check=True,
    )  # fmt: skip


def esp_tree(tree: Path, kernel: Path, cmdline: str, title: str, version: str) -> None:
    """Fill ``tree`` with the files of the EFI system partition.

    UEFI: systemd-boot, at the removable-media path, finds the unified kernel image by itself. BIOS: GRUB cannot boot a
    unified kernel image, so there is a second copy of kernel and initrd, with the same command line.
    """
    for folder in ("EFI/BOOT", "EFI/Linux", "loader", "grub"):
        (tree / folder).mkdir(parents=True)
    shutil.copyfile(BOOT_MANAGER, tree / "EFI/BOOT/BOOTX64.EFI")
    make(kernel, cmdline, title, version, tree / "EFI/Linux/hubsmith-a.efi")
    (tree / "loader/loader.conf").write_text("timeout 0\neditor no\n")
    for name in ("vmlinuz", "initrd"):
        shutil.copyfile(kernel / name, tree / "grub" / name)
    (tree / "grub/grub.cfg").write_text(
        f"echo 'hubsmith: starting {title} {version}'\nlinux /grub/vmlinuz {cmdline}\ninitrd /grub/initrd\nboot\n"
    )
