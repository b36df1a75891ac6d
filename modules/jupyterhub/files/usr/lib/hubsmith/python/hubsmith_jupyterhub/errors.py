"""Spawn failures with a message for the user."""

from __future__ import annotations

from tornado.web import HTTPError


class SpawnFailure(HTTPError):
    """Failed spawn whose sentence the hub shows to the user.

    If a spawn fails within a second, the hub passes on HTTP errors only. For other exceptions it shows a generic page.
    """

    sentence = ""
    code = 500

    def __init__(self) -> None:
        self.jupyterhub_message = self.sentence
        super().__init__(self.code, self.sentence)
