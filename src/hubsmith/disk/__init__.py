"""The GPT disk: partitions by systemd-repart, the unified kernel image, and GRUB's two pieces for BIOS.

Runs inside the build sandbox, from the tools root.
"""
