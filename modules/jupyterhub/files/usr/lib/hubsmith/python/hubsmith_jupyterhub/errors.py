"""Spawn failures with a message for the user."""

from __future__ import annotations

from collections.abc import Callable, Set
from typing import TYPE_CHECKING

from tornado.web import HTTPError

if TYPE_CHECKING:
    from jupyterhub.spawner import Spawner


class SpawnFailure(HTTPError):
    """Failed spawn whose sentence the hub shows to the user.

    If a spawn fails within a second, the hub passes on HTTP errors only. For other exceptions it shows a generic page.
    """

    sentence = ""
    code = 500

    def __init__(self) -> None:
        self.jupyterhub_message = self.sentence
        super().__init__(self.code, self.sentence)


class NoUser(SpawnFailure):
    """The server would be someone's who is not in the settings."""

    code = 403
    sentence = "Only users in the hub's settings can have a notebook server."


def only_for(users: Set[str]) -> Callable[[Spawner], None]:
    """Make a hook that lets only these users have a server.

    A hub admin could otherwise add or rename a user to the name of a system account and start its server.
    """

    def check(spawner: Spawner) -> None:
        """Check the user of a spawner before its server starts.

        :raises NoUser: the name is not in the settings.
        """
        if spawner.user.name not in users:
            raise NoUser

    return check
