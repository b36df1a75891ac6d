"""Failures of a spawn that the person who waits can read."""

from __future__ import annotations

from collections.abc import Callable, Set
from typing import TYPE_CHECKING

from tornado.web import HTTPError

if TYPE_CHECKING:
    from jupyterhub.spawner import Spawner


class SpawnFailure(HTTPError):
    """A failed spawn whose sentence the hub shows to the person who waits.

    Of a spawn that fails within a second the hub passes on only errors of HTTP; for all others its page is general.
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
