"""HTTP over Unix sockets, for the hub's proxy and the Docker Engine."""

from __future__ import annotations

import http.client
import socket


class UnixConnection(http.client.HTTPConnection):
    """HTTP connection to a server that listens on a Unix socket.

    :param path: path of the socket.
    :param timeout: seconds for connecting, and for each answer.
    """

    def __init__(self, path: str, *, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self.path, self.patience = path, timeout

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.patience)
        self.sock.connect(self.path)
