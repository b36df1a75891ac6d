"""What of the packages' root becomes the image's root: the cleaning rules that make it identical and anonymous."""

from __future__ import annotations

import re

#: Dropped with everything below: what a machine makes for itself, what only the build needed, caches that carry times.
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

#: The package database describes the read-only image, so it lives with it and not on state.
DPKG = "usr/lib/sysimage/dpkg"

#: The image's own /var, copied to state at first boot and when the image changes.
FACTORY = "usr/share/factory/var"


ACCOUNTS = ("etc/passwd", "etc/group", "etc/shadow", "etc/gshadow")
UNIT_FOLDERS = ("usr/lib/systemd/system/", "etc/systemd/system/")


def wanted_early(path: str) -> bool:
    """What must be known of the packages before the modules' files are put over them."""
    return path in ACCOUNTS or path.startswith(UNIT_FOLDERS)


def may_set_id(path: str) -> bool:
    """Whether a program keeps its setuid bit: root mounts what comes from NFS, nobody else."""
    return path != "usr/sbin/mount.nfs"


def image_path(path: str) -> str | None:
    """Where an entry of the packages' root goes, or nothing when it is dropped."""
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
    """The same for a container: its whole root can be written, so that nothing has to move."""
    return None if DROPPED.fullmatch(path) else path
