"""The partitions of an appliance as systemd-repart definitions: one source for the build and for the first boot."""

from __future__ import annotations

from collections.abc import Mapping

MIB = 1024 * 1024


def _definition(comment: str, **keys: str) -> str:
    lines = "".join(f"{key}={value}\n" for key, value in keys.items())
    return f"# {comment}\n[Partition]\n{lines}"


def _fixed(comment: str, kind: str, label: str, size_mb: int) -> str:
    # Set both bounds, or systemd-repart would grow an existing partition into free space. Without `Weight=0`, the
    # partition would get a share of the free space.
    return _definition(
        comment, Type=kind, Label=label, SizeMinBytes=f"{size_mb}M", SizeMaxBytes=f"{size_mb}M", Weight="0"
    )


def repart_d(disk: Mapping[str, int]) -> dict[str, str]:
    """Return the files of `/usr/lib/repart.d` by name.

    :param disk: `[disk]` table of the image definition (sizes in MiB, `min_gb` in GiB).
    """
    slot, verity = disk["root_slot_mb"], disk["verity_slot_mb"]
    return {
        "10-esp.conf": _fixed("Boot manager, kernels, GRUB's files.", "esp", "esp", disk["esp_mb"]),
        "15-bios.conf": _fixed(
            "GRUB's core image, for machines that start by BIOS.", "21686148-6449-6e6f-744e-656564454649", "bios", 1
        ),
        "20-root-a.conf": _fixed("The root that the image brings.", "root-x86-64", "root-a", slot),
        "21-root-a-verity.conf": _fixed("Its hash tree.", "root-x86-64-verity", "root-a-verity", verity),
        "30-root-b.conf": _fixed("Made at first boot, for the next image.", "root-x86-64", "root-b", slot),
        "31-root-b-verity.conf": _fixed("Its hash tree.", "root-x86-64-verity", "root-b-verity", verity),
        # A generic type, because systemd's generator mounts partitions of type `home`, and binds `var` to a machine ID.
        "40-state.conf": _definition(
            "/var. What is left, but for what modules claim.", Type="linux-generic", Label="state", Format="xfs",
            SizeMinBytes="2G",
        ),
    }  # fmt: skip


def minimum_bytes(disk: Mapping[str, int]) -> int:
    """Return the size in bytes of the smallest disk on which the first boot can create all partitions.

    It includes 2 GiB for state, 2 GiB for the partition of a module (homes), and 8 MiB for the two GPTs.
    """
    return (disk["esp_mb"] + 1 + 2 * (disk["root_slot_mb"] + disk["verity_slot_mb"]) + 2 * 2048 + 8) * MIB
