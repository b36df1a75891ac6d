"""What a user's notebook server may see, use and hear about itself."""

from __future__ import annotations

import pwd
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup/hubsmith.slice/hubsmith-users.slice")
MIB = 1024**2

#: Each user's server has a port of its own, which systemd keeps others from binding: a process that takes the place of
#: a server that has just ended would receive its owner's cookies. Below the kernel's ephemeral ports (32768…).
FIRST_PORT, LAST_PORT = 20_000, 29_999
#: The uids of the users' accounts (`modules/accounts`).
FIRST_UID, LAST_UID = 2000, 59_999
#: Where a server keeps its sockets: each sees its own there. (The path of a kernel's socket must stay below 108 bytes.)
RUNTIME = "/run/notebook"
#: Its own and new for each server; what is in them counts as its memory.
OWN_TMPFS = ("/dev/shm", "/tmp", "/var/tmp")
#: What a server with one Python kernel was seen to take (JupyterLab 4.6, ipykernel 7), rounded up.
NEEDED = 160 * MIB


def port_of(uid: int) -> int:
    """The port of a user's server."""
    return FIRST_PORT + (uid - FIRST_UID) % (LAST_PORT - FIRST_PORT + 1)


def memory_left(cgroup: Path = CGROUP) -> int | None:
    """Bytes that the servers together may still take; None when nothing limits them.

    A server counts with what it holds, but at least with what it needs: one that has just been started holds nothing
    yet. Files in the page cache do not count, since the kernel drops them when it must.
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
    """The properties of a server's unit (systemd.exec(5), systemd.resource-control(5)).

    :param memory: the limit in bytes.
    :param admin: whether the user may write to the shared folder.
    """
    name, home, shared = account.pw_name, account.pw_dir, "-/home/shared"
    properties = {
        "Description": f"Notebook server of {name}",
        # A server that failed is told by the hub; its journal stays.
        "CollectMode": "inactive-or-failed",
        "KillMode": "mixed",
        "TimeoutStopSec": "20",
        # Where the base class puts the environment of the unit; of no use to the server, that could fill /run.
        "RuntimeDirectory": f"jupyter/{name}",
        "MemorySwapMax": "0",
        "TasksMax": "1024",
        "LimitCORE": "0",
        "OOMScoreAdjust": "200",
        # What it sees of the file system.
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
        # What it sees of others, and what it can do to the kernel.
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
        # The kernel slows a server down and takes back caches before it must kill a process of it.
        properties["MemoryHigh"] = str(int(memory * 0.95))
    if not admin:
        properties["BindReadOnlyPaths"] = shared
    return properties
