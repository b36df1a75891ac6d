"""GPT disks: partitions by systemd-repart, the unified kernel image, and GRUB for BIOS.

This code runs in the build sandbox, with the programs of the toolchain.
"""
