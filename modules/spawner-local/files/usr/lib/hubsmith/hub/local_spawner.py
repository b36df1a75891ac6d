"""Notebook servers as the users' own processes: what a server may see and use."""

from __future__ import annotations

import json
import pwd
from pathlib import Path

from systemdspawner import SystemdSpawner
from traitlets import Set, Unicode, default

SLICE = "hubsmith-users.slice"
CGROUP = Path("/sys/fs/cgroup/hubsmith.slice") / SLICE
USAGE = Path("/run/hubsmith/usage")

#: Each user's server has a port of its own, which systemd keeps others from binding: a process that takes the place of
#: a server that has just ended would receive its owner's cookies. Below the kernel's ephemeral ports (32768…).
FIRST_PORT, LAST_PORT = 20_000, 29_999
#: The first uid of the users' accounts.
FIRST_UID = 2000
#: Where a server keeps its sockets: each sees its own there. (The path of a kernel's socket must stay below 108 bytes.)
RUNTIME = "/run/notebook"
#: Its own and new for each server; what is in them counts as its memory.
OWN_TMPFS = ("/dev/shm", "/tmp", "/var/tmp")
#: What a server with one Python kernel was seen to take (JupyterLab 4.6, ipykernel 7), rounded up.
NEEDED = 160 * 1024**2
#: The share of the quota from which on people are told.
NEAR = 0.9


class Told(Exception):
    """A failure whose sentence the hub shows to the person who waits."""

    sentence = ""

    def __init__(self) -> None:
        self.jupyterhub_message = self.sentence
        super().__init__(self.sentence)


class NotEnoughMemory(Told):
    """The machine cannot carry another server."""

    sentence = (
        "There is not enough memory left on this machine for another notebook server. Please try again later, when "
        "others have stopped theirs."
    )


class ServerEnded(Told):
    """The server's process ended while it was starting."""

    sentence = (
        "The notebook server ended while it was starting. Please tell the hub's administrator: the journal of the "
        "machine knows why."
    )


def home_usage(name: str) -> str | None:
    """A sentence for somebody whose home is nearly full; None when there is no need for it."""
    try:
        usage = json.loads((USAGE / f"{name}.json").read_text())
    except (OSError, ValueError):
        return None
    shares = {"quota": (usage["used"], usage["limit"]), "file": (usage["files"], usage["files_limit"])}
    share = max((used / limit for used, limit in shares.values() if limit), default=0.0)
    if share < NEAR:
        return None
    megabytes = f"{usage['used'] / 1024**2:.0f} of {usage['limit'] / 1024**2:.0f} MiB, {usage['files']} files"
    if share >= 0.995:
        return f"Your home is full ({megabytes}): nothing can be saved. Delete something, then empty the trash."
    return f"Your home is nearly full ({megabytes}): delete what you do not need."


def memory_left(cgroup: Path = CGROUP) -> int | None:
    """Bytes that the servers together may still take; None when nothing limits them.

    Files in the page cache do not count: the kernel drops them when it must.
    """
    try:
        limit = (cgroup / "memory.max").read_text().strip()
        stat = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
    except FileNotFoundError:  # the slice starts with the first server
        return None
    if limit == "max":
        return None
    return int(limit) - sum(int(stat[key]) for key in ("anon", "shmem", "kernel"))


class LocalSpawner(SystemdSpawner):
    """A :class:`SystemdSpawner` whose units see the user's home, the shared folder, and nobody else."""

    admins = Set(Unicode(), help="Users who may write to the shared folder.").tag(config=True)
    own_port = 0
    starting = False

    @default("cmd")
    def _cmd(self) -> list[str]:
        return ["/usr/lib/hubsmith/notebook/singleuser"]

    @default("slice")
    def _slice(self) -> str:
        return SLICE

    @default("extra_paths")
    def _extra_paths(self) -> list[str]:
        return ["/home/{USERNAME}/.local/bin", "/opt/notebook/bin"]

    def confinement(self, account: pwd.struct_passwd) -> dict[str, str]:
        """The properties of the unit (systemd.exec(5), systemd.resource-control(5))."""
        name, home = account.pw_name, account.pw_dir
        shared = "BindPaths" if name in self.admins else "BindReadOnlyPaths"
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
            "BindPaths": home,
            "PrivateDevices": "yes",
            "PrivateIPC": "yes",
            "TemporaryFileSystem": "".join(f"{path}:rw,nosuid,nodev,mode=1777 " for path in OWN_TMPFS)
            + f"{RUNTIME}:rw,nosuid,nodev,noexec,size=16M,mode=0700,uid={account.pw_uid},gid={account.pw_gid}",
            "InaccessiblePaths": "-/boot -/efi -/etc/hubsmith -/etc/letsencrypt -/etc/ssh "
            "-/run/configurable-http-proxy -/run/dbus -/run/jupyter -/var/lib/hubsmith -/var/lib/jupyterhub -/var/log",
            # What it sees of others, and what it can do to the kernel.
            "ProtectProc": "invisible",
            "ProtectClock": "yes",
            "ProtectControlGroups": "yes",
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
            "SocketBindAllow": f"tcp:{self.own_port}",
            "SocketBindDeny": f"tcp:{FIRST_PORT}-{LAST_PORT}",
        }
        if self.mem_limit:
            properties["MemoryHigh"] = str(int(self.mem_limit * 0.95))
        folder = "-/home/shared"
        properties[shared] = f"{properties[shared]} {folder}" if shared in properties else folder
        return properties

    def get_env(self) -> dict[str, str]:
        """The environment of the server.

        The base class asks for it between choosing a port and using it: the moment to put the user's own in.
        """
        if self.own_port:
            self.port = self.own_port
        return super().get_env() | {
            "LANG": "C.UTF-8",
            "JUPYTER_CONFIG_PATH": "/run/hubsmith/jupyter",
            "JUPYTER_PATH": "/usr/share/hubsmith/jupyter",
            # On a file system of its own: a server starts also when the home is full.
            "JUPYTER_RUNTIME_DIR": f"{RUNTIME}/jupyter",
            "XDG_RUNTIME_DIR": RUNTIME,
        }

    async def start(self) -> tuple[str, int] | None:
        """Start the unit.

        :raises NotEnoughMemory: the servers that run leave too little memory for another.
        :raises ServerEnded: it ended in its first moments.
        """
        left = memory_left()
        if left is not None and left < NEEDED:
            raise NotEnoughMemory
        account = pwd.getpwnam(self.user.name)
        self.own_port = FIRST_PORT + (account.pw_uid - FIRST_UID) % (LAST_PORT - FIRST_PORT + 1)
        self.unit_extra_properties = self.confinement(account)
        self.starting = True
        try:
            return await super().start()
        finally:
            self.starting = False

    async def poll(self) -> int | None:
        """None while the unit runs.

        The base class looks once a second until the unit runs, up to the time-out. But a unit runs from the moment
        that systemd-run returns: one that does not has failed.

        :raises ServerEnded: it ended in its first moments.
        """
        status = await super().poll()
        if status is not None and self.starting:
            raise ServerEnded
        return status

    async def progress(self):
        """What the person reads who waits for the server."""
        if told := home_usage(self.user.name):
            yield {"progress": 20, "message": told}
        yield {"progress": 50, "message": "The notebook server is starting."}
