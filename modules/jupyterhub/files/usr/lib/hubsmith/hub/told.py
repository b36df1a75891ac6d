"""What a spawner says to the person who waits."""

from __future__ import annotations

from tornado.web import HTTPError


class Told(HTTPError):
    """A failure whose sentence the hub shows to the person who waits.

    Of a spawn that fails within a second the hub passes on only errors of HTTP; for all others its page is general.
    """

    sentence = ""
    code = 500

    def __init__(self) -> None:
        self.jupyterhub_message = self.sentence
        super().__init__(self.code, self.sentence)
