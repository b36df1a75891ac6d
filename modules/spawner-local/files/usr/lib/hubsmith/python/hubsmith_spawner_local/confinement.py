"""Confinement of a user's notebook server: unit properties, port and memory."""

from __future__ import annotations

import pwd
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup/hubsmith.slice/hubsmith-users.slice")
MIB = 1024**2

#: Range of the servers' ports, below the kernel's ephemeral ports (32768…). Each user has one port, and systemd keeps
#: other users from binding it. Otherwise their process could replace a server that just ended, and get its cookies.
FIRST_PORT, LAST_PORT = 20_000, 29_999
#: Uids of the users' accounts (`modules/accounts`).
FIRST_UID, LAST_UID = 2000, 59_999
#: Folder for a server's sockets, private to each server. (The path of a kernel's socket must be below 108 bytes.)
RUNTIME = "/run/notebook"
#: Folders that are private to each server and initially empty. Their content counts as its memory.
OWN_TMPFS = ("/dev/shm", "/tmp", "/var/tmp")
#: Measured memory of a server with one Python kernel (JupyterLab 4.6, ipykernel 7), rounded up.
NEEDED = 160 * MIB


def port_of(uid: int) -> int:
    """Return the port of a user's server."""
    return FIRST_PORT + (uid - FIRST_UID) % (LAST_PORT - FIRST_PORT + 1)


def memory_left(cgroup: Path = CGROUP) -> int | None:
    """Return the memory in bytes that is left for further servers; None if there is no limit.

    A server counts with its current use, but at least with :data:`NEEDED`, because a new server uses little at first.
    The page cache does not count, because the kernel can drop it.
    """
    try:
        limit = (cgroup / "memory.max").read_text().strip()
    except FileNotFoundError:  # the slice starts with the first server
        return None
    if limit == "max":
        return None
    taken = 0
    for server in cgroup.glob("*.service/memory.stat"):
        try:
            stat = dict(line.split() for line in server.read_text().splitlines())
        except OSError:  # it has just ended
            continue
        taken += max(NEEDED, sum(int(stat[key]) for key in ("anon", "shmem", "kernel")))
    return int(limit) - taken


def confinement(account: pwd.struct_passwd, *, memory: int | None, admin: bool) -> dict[str, str]:
    """Return the properties of a server's unit (systemd.exec(5), systemd.resource-control(5)).

    :param memory: memory limit in bytes.
    :param admin: whether the user may write to the shared folder.
    """
    name, home, shared = account.pw_name, account.pw_dir, "-/home/shared"
    properties = {
        "Description": f"Notebook server of {name}",
        # systemd forgets a failed unit. The hub reports the failure, and the journal is kept.
        "CollectMode": "inactive-or-failed",
        "KillMode": "mixed",
        "TimeoutStopSec": "20",
        # The base class writes the unit's environment here. It is hidden from the server, which could fill /run.
        "RuntimeDirectory": f"jupyter/{name}",
        "MemorySwapMax": "0",
        "TasksMax": "1024",
        "LimitCORE": "0",
        "OOMScoreAdjust": "200",
        # The server's view of the file system.
        "ProtectSystem": "strict",
        "ProtectHome": "tmpfs",
        "BindPaths": f"{home} {shared}" if admin else home,
        "PrivateDevices": "yes",
        "PrivateIPC": "yes",
        # A user namespace in which nobody but the user (and root, without rights) exists. The kernel lets no process
        # outside the first one move its files to another project, past the quota.
        "PrivateUsers": "yes",
        "TemporaryFileSystem": "".join(f"{path}:rw,nosuid,nodev,mode=1777 " for path in OWN_TMPFS)
        + f"{RUNTIME}:rw,nosuid,nodev,noexec,size=16M,mode=0700,uid={account.pw_uid},gid={account.pw_gid}",
        "InaccessiblePaths": "-/boot -/efi -/etc/hubsmith -/etc/letsencrypt -/etc/ssh "
        "-/run/configurable-http-proxy -/run/dbus -/run/jupyter -/var/lib/hubsmith -/var/lib/jupyterhub -/var/log",
        # Its view of other processes, and its access to the kernel.
        "ProtectProc": "invisible",
        "ProtectClock": "yes",
        # A namespace of its own: it sees its own group as the root of all, and no names of others.
        "ProtectControlGroupsEx": "strict",
        "ProtectHostname": "yes",
        "ProtectKernelLogs": "yes",
        "ProtectKernelModules": "yes",
        "ProtectKernelTunables": "yes",
        "CapabilityBoundingSet": "",
        "LockPersonality": "yes",
        "RestrictNamespaces": "yes",
        "RestrictRealtime": "yes",
        "RestrictSUIDSGID": "yes",
        "SystemCallArchitectures": "native",
        "SystemCallFilter": "~@clock @cpu-emulation @module @mount @obsolete @raw-io @reboot @swap",
        "SystemCallErrorNumber": "EPERM",
        # The network.
        "RestrictAddressFamilies": "AF_UNIX AF_INET AF_INET6 AF_NETLINK",
        "IPAddressDeny": "169.254.169.254 fd00:ec2::254",
        "SocketBindAllow": f"tcp:{port_of(account.pw_uid)}",
        "SocketBindDeny": f"tcp:{FIRST_PORT}-{LAST_PORT}",
    }
    if memory:
        # Above this, the kernel reclaims caches and slows the server down before it has to kill a process.
        properties["MemoryHigh"] = str(int(memory * 0.95))
    if not admin:
        properties["BindReadOnlyPaths"] = shared
    return properties
