"""A line to Glance that can be cut, and that can change a byte; keeps a record of what was asked.

A program: `proxy.py LISTEN TARGET RECORD`. Each line on standard input, a JSON object, is how it behaves from then on:

- `cut`: after so many bytes, in both directions together, the line is dead until the next order;
- `hold`: after so many bytes nothing passes any more, and nobody is told; with the next order the line is dead;
- `pause`: the same, but with the next order what was held passes;
- `flip`: which byte of an upload is changed.

It answers each order with a line: how many bytes have passed since the one before.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

BLOCK = 16384


class Line:
    """The state that all connections share."""

    def __init__(self, target: int, record: Path) -> None:
        self.target, self.record = target, record
        self.mutex = threading.Lock()
        self.open: set[socket.socket] = set()
        self.order: dict[str, int] = {}
        self.passed = 0

    def obey(self, order: dict[str, int]) -> int:
        with self.mutex:
            passed, self.passed, self.order = self.passed, 0, order
        return passed

    def allowed(self, count: int) -> int:
        """How many of some bytes may pass."""
        with self.mutex:
            limit = next((self.order[name] for name in ("cut", "hold", "pause") if name in self.order), None)
            count = count if limit is None else max(0, min(count, limit - self.passed))
            self.passed += count
        return count

    def wait(self) -> None:
        """Hold what comes until there is another order."""
        order = self.order  # before anyone can see that something is held, and give another one
        self.record.with_suffix(".held").touch()
        while self.order is order:
            time.sleep(0.05)

    @property
    def dead(self) -> bool:
        with self.mutex:
            return "cut" in self.order and self.passed >= self.order["cut"]

    def cut(self) -> None:
        with self.mutex:
            for one in self.open:
                # Not an orderly end: what is on its way is lost.
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                one.close()
            self.open.clear()

    def serve(self, client: socket.socket) -> None:
        server = socket.create_connection(("127.0.0.1", self.target))
        with self.mutex:
            self.open |= {client, server}
        upload = threading.Thread(target=self.carry, args=(client, server, True), daemon=True)
        upload.start()
        self.carry(server, client, False)

    def carry(self, source: socket.socket, target: socket.socket, asking: bool) -> None:
        head, body = b"", 0
        try:
            while block := source.recv(BLOCK):
                if asking and b"\r\n\r\n" not in head:
                    head += block
                    self.note(head)
                    body = len(head.partition(b"\r\n\r\n")[2]) - len(block)
                if asking and head.startswith(b"PUT"):
                    where = self.order.get("flip", -1) - body
                    if "flip" in self.order and 0 <= where < len(block):
                        block = block[:where] + bytes([block[where] ^ 1]) + block[where + 1 :]
                    body += len(block)
                may = self.allowed(len(block))
                target.sendall(block[:may])
                if may < len(block) and "pause" in self.order:
                    self.wait()
                    target.sendall(block[may:])
                    continue
                if may < len(block) and "hold" in self.order:
                    self.wait()
                    self.cut()
                    return
                if may < len(block) or self.dead:
                    self.cut()
                    return
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the other one is gone

    def note(self, head: bytes) -> None:
        """Write down a request whose head is complete."""
        text, end, body = head.partition(b"\r\n\r\n")
        if not end:
            return
        method, path, _ = text.decode().split("\r\n")[0].split(" ")
        asked: dict[str, Any] = {"method": method, "path": path}
        if b"json" in text.lower().partition(b"content-type:")[2].partition(b"\r\n")[0] and body:
            asked["body"] = json.loads(body)
        with self.mutex, self.record.open("a") as file:
            file.write(json.dumps(asked) + "\n")


def main() -> None:
    listen, target, record = sys.argv[1:]
    line = Line(int(target), Path(record))
    with socket.create_server(("127.0.0.1", int(listen)), backlog=64) as server:

        def accept() -> None:
            while True:
                client, _ = server.accept()
                if line.dead:
                    client.close()
                else:
                    threading.Thread(target=line.serve, args=(client,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        print("ready", flush=True)
        for order in sys.stdin:
            print(line.obey(json.loads(order)), flush=True)


if __name__ == "__main__":
    main()
