"""Failures of a spawn that the person who waits can read."""

from __future__ import annotations

from tornado.web import HTTPError


class SpawnFailure(HTTPError):
    """A failed spawn whose sentence the hub shows to the person who waits.

    Of a spawn that fails within a second the hub passes on only errors of HTTP; for all others its page is general.
    """

    sentence = ""
    code = 500

    def __init__(self) -> None:
        self.jupyterhub_message = self.sentence
        super().__init__(self.code, self.sentence)
