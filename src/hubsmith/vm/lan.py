"""Private network between machines: an unprivileged Ethernet switch that can be partitioned.

Each NIC is a pair of Unix datagram sockets in its machine's folder (QEMU's ``-netdev dgram``), with one Ethernet frame
per datagram. There are no connections, so machines can start, crash and return in any order.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import selectors
import socket
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from hubsmith.vm.command import lan_sockets

#: Longest Ethernet frame in bytes, with QEMU's largest offload.
LARGEST = 65536 + 64
#: A frame for a NIC whose queue is full is sent again after so many seconds, and at most so many times.
RETRY, RETRIES = 0.002, 500


@dataclass(eq=False)
class _Port:
    member: str
    socket: socket.socket
    folder: int
    target: str
    sent: int = 0


@dataclass(order=True)
class _Frame:
    due: float
    number: int
    port: _Port = field(compare=False)
    data: bytes = field(compare=False)
    tries: int = field(default=0, compare=False)


class Lan:
    """The switch. It runs in its own thread until it is closed.

    :param name: name of the thread.
    """

    def __init__(self, name: str) -> None:
        self._lock = threading.Lock()
        self._ports: dict[Path, _Port] = {}
        self._addresses: dict[bytes, _Port] = {}
        self._groups: list[set[str]] = []
        self._queue: list[_Frame] = []
        self._count = 0
        self._selector = selectors.DefaultSelector()
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_reader.setblocking(False)
        self._selector.register(self._wake_reader, selectors.EVENT_READ)
        self._closing = False
        self._thread = threading.Thread(target=self._serve, name=f"lan-{name}", daemon=True)
        self._thread.start()

    def attach(self, folder: Path, nic: str, member: str) -> None:
        """Connect a NIC, or connect it again after a restart of its machine.

        :param folder: folder of the machine, which holds the sockets.
        :param nic: name of the NIC's netdev.
        :param member: name of the machine, for :meth:`partition`.
        """
        theirs, ours = lan_sockets(nic)
        with self._lock:
            self._detach(folder / ours)
            handle = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            (folder / ours).unlink(missing_ok=True)
            endpoint = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            endpoint.bind(f"/proc/self/fd/{handle}/{ours}")
            endpoint.setblocking(False)
            port = _Port(member, endpoint, handle, f"/proc/self/fd/{handle}/{theirs}")
            self._ports[folder / ours] = port
            self._selector.register(endpoint, selectors.EVENT_READ, port)
        self._wake()

    def detach(self, folder: Path, nic: str) -> None:
        """Disconnect a NIC."""
        with self._lock:
            self._detach(folder / lan_sockets(nic)[1])

    def partition(self, *groups: Iterable[str]) -> None:
        """Partition the network: machines reach only members of their group. Machines in no group are isolated."""
        with self._lock:
            self._groups = [set(group) for group in groups]

    def heal(self) -> None:
        """Undo :meth:`partition`."""
        self.partition()

    def close(self) -> None:
        """Stop the thread and close the sockets."""
        if not self._closing:
            self._closing = True
            self._wake()
            self._thread.join(10)
            with self._lock:
                for path in list(self._ports):
                    self._detach(path)
            self._selector.close()
            self._wake_reader.close()
            self._wake_writer.close()

    def _detach(self, path: Path) -> None:
        port = self._ports.pop(path, None)
        if port is not None:
            self._selector.unregister(port.socket)
            port.socket.close()
            os.close(port.folder)
            self._addresses = {mac: other for mac, other in self._addresses.items() if other is not port}
            self._queue = [frame for frame in self._queue if frame.port is not port]
            heapq.heapify(self._queue)

    def _wake(self) -> None:
        self._wake_writer.send(b"x")

    def _serve(self) -> None:
        while not self._closing:
            with self._lock:
                wait = max(0.0, self._queue[0].due - time.monotonic()) if self._queue else None
            ready = self._selector.select(wait)
            with self._lock:
                for key, _ in ready:
                    if key.data is None:
                        with contextlib.suppress(BlockingIOError):
                            self._wake_reader.recv(4096)
                    elif key.data in self._ports.values():
                        self._receive(key.data)
                self._deliver()

    def _receive(self, source: _Port) -> None:
        for _ in range(64):
            try:
                data = source.socket.recv(LARGEST)
            except (BlockingIOError, ConnectionError):
                return
            if len(data) < 14:
                continue
            self._addresses[data[6:12]] = source
            known = None if data[0] & 1 else self._addresses.get(data[0:6])
            for target in [known] if known else self._ports.values():
                if target is not source and self._reaches(source, target):
                    self._enqueue(target, data)

    def _reaches(self, source: _Port, target: _Port) -> bool:
        return not self._groups or any({source.member, target.member} <= group for group in self._groups)

    def _enqueue(self, target: _Port, data: bytes) -> None:
        self._count += 1
        heapq.heappush(self._queue, _Frame(time.monotonic(), self._count, target, data))

    def _deliver(self) -> None:
        now = time.monotonic()
        again = []
        while self._queue and self._queue[0].due <= now:
            frame = heapq.heappop(self._queue)
            try:
                frame.port.socket.sendto(frame.data, frame.port.target)
                frame.port.sent += 1
            except BlockingIOError:
                frame.tries, frame.due = frame.tries + 1, now + RETRY
                if frame.tries < RETRIES:
                    again.append(frame)
            except OSError:
                pass  # that machine is off
        for frame in again:
            heapq.heappush(self._queue, frame)
