"""A cloud's metadata service over one connection on standard input and output; run as a script by QEMU.

It serves the files of a folder as Nova and EC2 do: a directory is the list of its names, ``/latest/api/token`` gives a
session token, ``/openstack/latest/password`` takes one post. Only the standard library, for a quick start.
"""

from __future__ import annotations

import os
import sys
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from pathlib import Path
from typing import Any

TREE = "tree"
#: A directory's own listing, where it is not just the names of its files.
INDEX = ".index"
LOG = "requests.log"
PASSWORD = "password"
TOKEN = "c2Vzc2lvbg=="


class Handler(BaseHTTPRequestHandler):
    """Answers the requests of one connection."""

    protocol_version = "HTTP/1.1"

    def __init__(self, folder: Path) -> None:
        # Not the base class's, which wants a socket server.
        self.folder = folder
        self.client_address = ("guest", 0)
        self.rfile: Any = sys.stdin.buffer
        self.wfile: Any = BytesIO()
        self.close_connection = False

    def do_GET(self) -> None:
        """A file, a list of names, or 404."""
        path = self.path.partition("?")[0].strip("/")
        if path == "openstack/latest/password":
            posted = self.folder / PASSWORD
            return self.answer(200, posted.read_text() if posted.exists() else "")
        root = (self.folder / TREE).resolve()
        found = (root / path).resolve()
        if not found.is_relative_to(root) or not found.exists():
            return self.answer(404, "not found")
        if found.is_file():
            return self.answer(200, found.read_text())
        if (found / INDEX).exists():
            return self.answer(200, (found / INDEX).read_text())
        # EC2 marks directories by a slash, and so does Nova below /latest/.
        slash = "" if path in ("", "openstack") else "/"
        names = sorted(entry.name + (slash if entry.is_dir() else "") for entry in found.iterdir())
        return self.answer(200, "\n".join(names))

    do_HEAD = do_GET

    def do_PUT(self) -> None:
        """A session token."""
        self.body()
        if self.path == "/latest/api/token":
            self.answer(200, TOKEN)
        else:
            self.answer(405, "")

    def do_POST(self) -> None:
        """The administrator's password, once."""
        body = self.body()
        if self.path != "/openstack/latest/password":
            return self.answer(405, "")
        if (self.folder / PASSWORD).exists():
            return self.answer(409, "the password is set")
        handle = os.open(self.folder / PASSWORD, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as stream:
            stream.write(body)
        return self.answer(200, "")

    def body(self) -> bytes:
        """What came with the request."""
        return bytes(self.rfile.read(int(self.headers.get("Content-Length") or 0)))

    def answer(self, status: int, text: str) -> None:
        """Send it, and note the request."""
        data = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
        with (self.folder / LOG).open("a") as log:
            log.write(f"{self.command} {self.path} {status}\n")

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on standard error, which is the guest's connection here."""


def main() -> None:
    """Serve until the guest hangs up."""
    handler = Handler(Path(sys.argv[1]))
    while not handler.close_connection:
        handler.handle_one_request()
        # A whole answer in one piece: QEMU makes a packet of each write.
        sys.stdout.buffer.write(handler.wfile.getvalue())
        sys.stdout.buffer.flush()
        handler.wfile = BytesIO()


if __name__ == "__main__":
    main()
