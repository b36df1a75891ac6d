"""Metadata service of a cloud for one connection on standard input and output. QEMU runs it as a script.

It serves the files of a folder as Nova and EC2 do. A directory is served as the list of its names.
``/latest/api/token`` returns a session token, and ``/openstack/latest/password`` accepts one POST. It uses only the
standard library, to start quickly.
"""

from __future__ import annotations

import os
import sys
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from pathlib import Path
from typing import Any

TREE = "tree"
#: Listing of a directory, if it is not just the names of its files.
INDEX = ".index"
LOG = "requests.log"
PASSWORD = "password"
TOKEN = "c2Vzc2lvbg=="
#: Longest body of a request and longest log, in bytes: a guest must not fill the host's memory or disk.
LONGEST_BODY, LONGEST_LOG = 16 << 10, 1 << 20


class Handler(BaseHTTPRequestHandler):
    """Handler for the requests of one connection."""

    protocol_version = "HTTP/1.1"

    def __init__(self, folder: Path) -> None:
        # Do not call the base class, which needs a socket server.
        self.folder = folder
        self.client_address = ("guest", 0)
        self.rfile: Any = sys.stdin.buffer
        self.wfile: Any = BytesIO()
        self.close_connection = False

    def do_GET(self) -> None:
        """Serve a file, a listing, or 404."""
        path = self.path.partition("?")[0].strip("/")
        if path == "openstack/latest/password":
            posted = self.folder / PASSWORD
            return self.answer(200, posted.read_text() if posted.exists() else "")
        root = (self.folder / TREE).resolve()
        try:
            found = (root / path).resolve()
            there = found.is_relative_to(root) and found.exists()
        except (OSError, ValueError):  # no file has such a name
            there = False
        if not there:
            return self.answer(404, "not found")
        if found.is_file():
            return self.answer(200, found.read_text())
        if (found / INDEX).exists():
            return self.answer(200, (found / INDEX).read_text())
        # EC2 marks directories with a slash, and so does Nova under /latest/.
        slash = "" if path in ("", "openstack") else "/"
        names = sorted(entry.name + (slash if entry.is_dir() else "") for entry in found.iterdir())
        return self.answer(200, "\n".join(names))

    do_HEAD = do_GET

    def do_PUT(self) -> None:
        """Return a session token."""
        if self.body() is None:
            return
        if self.path == "/latest/api/token":
            self.answer(200, TOKEN)
        else:
            self.answer(405, "")

    def do_POST(self) -> None:
        """Accept the administrator's password, once."""
        if (body := self.body()) is None:
            return None
        if self.path != "/openstack/latest/password":
            return self.answer(405, "")
        if (self.folder / PASSWORD).exists():
            return self.answer(409, "the password is set")
        handle = os.open(self.folder / PASSWORD, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as stream:
            stream.write(body)
        return self.answer(200, "")

    def body(self) -> bytes | None:
        """Read the body of the request. If it is too long or has no valid length, answer and return None."""
        length = self.headers.get("Content-Length") or "0"
        # Python refuses to convert thousands of digits.
        if length.isdecimal() and len(length) <= 9 and int(length) <= LONGEST_BODY:
            return bytes(self.rfile.read(int(length)))
        self.close_connection = True
        self.answer(413 if length.isdecimal() else 400, "")
        return None

    def answer(self, status: int, text: str) -> None:
        """Send a response and log the request."""
        data = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
        with (self.folder / LOG).open("a") as log:
            if log.tell() < LONGEST_LOG:
                log.write(f"{self.command} {self.path} {status}\n")

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: standard error is the guest's connection."""


def main() -> None:
    """Serve until the guest closes the connection."""
    handler = Handler(Path(sys.argv[1]))
    while not handler.close_connection:
        handler.handle_one_request()
        # Write each response at once: QEMU sends a packet per write.
        sys.stdout.buffer.write(handler.wfile.getvalue())
        sys.stdout.buffer.flush()
        handler.wfile = BytesIO()


if __name__ == "__main__":
    main()
