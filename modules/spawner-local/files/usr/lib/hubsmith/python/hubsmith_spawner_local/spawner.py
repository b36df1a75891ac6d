"""The local spawner: notebook servers as processes of their users, each in a systemd unit."""

from __future__ import annotations

import pwd
from collections.abc import AsyncIterator
from typing import Any, ClassVar

from systemdspawner import SystemdSpawner
from traitlets import Set, Unicode, default

from hubsmith_jupyterhub.errors import NoUser, SpawnFailure
from hubsmith_jupyterhub.usage import home_usage
from hubsmith_spawner_local.confinement import (
    FIRST_UID,
    LAST_UID,
    NEEDED,
    RUNTIME,
    confinement,
    memory_left,
    port_of,
)


class NotEnoughMemory(SpawnFailure):
    """The machine has too little memory for another server."""

    code = 503
    sentence = (
        "There is not enough memory left on this machine for another notebook server. Please try again later, when "
        "others have stopped theirs."
    )


class ServerEnded(SpawnFailure):
    """The server's process ended while it was starting."""

    sentence = (
        "The notebook server ended while it was starting. Please tell the hub's administrator: the journal of the "
        "machine knows why."
    )


class LocalSpawner(SystemdSpawner):
    """A :class:`SystemdSpawner` whose units see only the user's home and the shared folder, and no other users."""

    admins = Set(Unicode(), help="Users who may write to the shared folder.").tag(config=True)
    own_port = 0
    starting = False
    #: Servers of all users that are starting and have no control group yet.
    promised: ClassVar[set[str]] = set()

    @default("cmd")
    def _cmd(self) -> list[str]:
        return ["/usr/lib/hubsmith/notebook/singleuser"]

    @default("slice")
    def _slice(self) -> str:
        return "hubsmith-users.slice"

    @default("extra_paths")
    def _extra_paths(self) -> list[str]:
        return ["/home/{USERNAME}/.local/bin", "/opt/notebook/bin"]

    def get_env(self) -> dict[str, str]:
        """Return the server's environment, and set its port.

        The base class calls this after it has chosen a port and before it uses the port. So this is where the user's
        own port can replace it.
        """
        if self.own_port:
            self.port = self.own_port
        return super().get_env() | {
            "LANG": "C.UTF-8",
            "JUPYTER_CONFIG_PATH": "/run/hubsmith/jupyter",
            # On its own file system, so that a server starts even if the home is full.
            "JUPYTER_RUNTIME_DIR": f"{RUNTIME}/jupyter",
            "XDG_RUNTIME_DIR": RUNTIME,
        }

    async def start(self) -> tuple[str, int] | None:
        """Start the unit.

        :raises NoUser: the account does not belong to a user of the hub.
        :raises NotEnoughMemory: the running servers leave too little memory for another one.
        :raises ServerEnded: the server ended while it was starting.
        """
        left = memory_left()
        if left is not None and left < NEEDED * (1 + len(self.promised)):
            raise NotEnoughMemory
        account = pwd.getpwnam(self.user.name)
        if not FIRST_UID <= account.pw_uid <= LAST_UID:
            raise NoUser
        self.own_port = port_of(account.pw_uid)
        self.unit_extra_properties = confinement(account, memory=self.mem_limit, admin=account.pw_name in self.admins)
        self.starting = True
        self.promised.add(account.pw_name)
        try:
            return await super().start()
        finally:
            self.starting = False
            self.promised.discard(account.pw_name)

    async def poll(self) -> int | None:
        """Return None while the unit runs, else its exit code.

        The base class polls once a second until the unit runs or the timeout expires. But a unit runs as soon as
        systemd-run returns. A unit that does not run then has failed.

        :raises ServerEnded: the server ended while it was starting.
        """
        status = await super().poll()
        if status is not None and self.starting:
            raise ServerEnded
        return status

    async def progress(self) -> AsyncIterator[dict[str, Any]]:
        """Yield messages for the user who waits for the server."""
        if warning := home_usage(self.user.name):
            yield {"progress": 20, "message": warning}
        yield {"progress": 50, "message": "The notebook server is starting."}
