"""The unified kernel image, and the EFI system partition's tree that starts it on both firmwares."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

STUB = Path("/usr/lib/systemd/boot/efi/linuxx64.efi.stub")
BOOT_MANAGER = Path("/usr/lib/systemd/boot/efi/systemd-bootx64.efi")


def make(kernel: Path, cmdline: str, title: str, version: str, out: Path) -> None:
    """Join kernel, initrd and command line into one EFI program.

    :param kernel: folder of the stage `initrd` (``vmlinuz``, ``initrd``, ``version``).
    :param cmdline: the kernel's command line, with the root hash.
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
    """Fill ``tree`` with what the EFI system partition holds.

    UEFI: systemd-boot as the removable-media program, which finds the unified image by itself. BIOS: GRUB cannot
    start a unified image, so the same kernel and initrd lie there a second time with the same command line.
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
