"""Rules that turn the packages' root into the image's root, so that it is reproducible and has no identity."""

from __future__ import annotations

import re

#: Dropped, with everything below: files that a machine creates itself, leftovers of the build, caches with timestamps.
DROPPED = re.compile(
    r"""(?x)
    ( dev/.+ | proc/.+ | sys/.+ | run/.+ | tmp/.+ | boot/.+ | initrd\.img.* | vmlinuz.*
    | etc/ssh/ssh_host_.* | etc/hostname | etc/machine-id | etc/resolv\.conf | etc/\.pwd\.lock | etc/[^/]*-
    | etc/apt/sources\.list | etc/apt/apt\.conf\.d/99mmdebstrap | etc/dpkg/dpkg\.cfg\.d/99mmdebstrap
    | etc/ssl/private/ssl-cert-snakeoil\.key | etc/ssl/certs/ssl-cert-snakeoil\.pem
    | etc/cron\..* | etc/update-motd\.d/.+
    | var/cache/.+ | var/log/.+ | var/tmp/.+ | var/backups/.+ | var/lib/dbus/machine-id
    | var/lib/apt/.+ | var/lib/dpkg/(available | lock.* | .*-old | triggers/Lock)
    | var/lib/systemd/(random-seed | credential\.secret)
    | var/lib/ucf/.* | var/lib/dhcp/.* | usr/share/i18n/.+ | usr/share/python3/.*\.pyc
    | usr/lib/x86_64-linux-gnu/libfakeroot(/.*)?
    )
    """
)

#: Folder of the package database. It describes the read-only image, so it is in the root and not on state.
DPKG = "usr/lib/sysimage/dpkg"

#: The image's /var, copied to state at first boot and when the image changes.
FACTORY = "usr/share/factory/var"


ACCOUNTS = ("etc/passwd", "etc/group", "etc/shadow", "etc/gshadow")
UNIT_FOLDERS = ("usr/lib/systemd/system/", "etc/systemd/system/")


def wanted_early(path: str) -> bool:
    """Whether the stage `root` must read this file of the packages: account files and units."""
    return path in ACCOUNTS or path.startswith(UNIT_FOLDERS)


def may_set_id(path: str) -> bool:
    """Whether a program keeps its setuid and setgid bits: only `sudo`, with which operators become root.

    Users do not need the others. Passwords, shells and groups come from the settings, and only root mounts. With
    `su`, users could try each other's passwords.
    """
    return path == "usr/bin/sudo"


def image_path(path: str) -> str | None:
    """Return the path in a machine's root for a path of the packages' root; None if it is dropped."""
    if DROPPED.fullmatch(path):
        return None
    if path.startswith("root/"):
        return f"{FACTORY}/roothome{path.removeprefix('root')}"
    if path == "var/lib/dpkg" or path.startswith("var/lib/dpkg/"):
        return DPKG + path.removeprefix("var/lib/dpkg")
    if path.startswith("var/"):
        return f"{FACTORY}/{path.removeprefix('var/')}"
    return path


def container_path(path: str) -> str | None:
    """Return the path in a container's root; None if it is dropped. Nothing moves, as the whole root is writable."""
    return None if DROPPED.fullmatch(path) else path
