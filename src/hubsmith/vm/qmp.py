"""Synchronous client for the QEMU Machine Protocol, with a timeout on every call.

It wraps the asyncio library ``qemu.qmp``. All clients of the process share one event loop in a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import TimeoutError as FutureTimeout
from pathlib import Path
from typing import Any, TypeVar

from qemu.qmp import ConnectError, ExecInterruptedError, ExecuteError, QMPClient, QMPError

from hubsmith.errors import HarnessFailed
from hubsmith.vm.paths import connect_unix

T = TypeVar("T")

#: Seconds that QEMU may take to answer. It usually takes milliseconds, and seconds only on a host that swaps.
TIMEOUT = 30.0


class QmpRefused(HarnessFailed):
    """QEMU answered a command with an error. ``error_class`` is defined by QMP."""

    def __init__(self, command: str, error_class: str, description: str) -> None:
        super().__init__(f"QEMU refused {command}: {description}")
        self.command, self.error_class, self.description = command, error_class, description


class _EventLoop:
    """asyncio loop in a daemon thread, shared by all clients of the process."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()

    def run(self, work: Coroutine[Any, Any, T], what: str, timeout: float) -> T:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="qmp", daemon=True).start()
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(timeout)
        except FutureTimeout:
            future.cancel()
            raise HarnessFailed(f"QEMU did not answer {what} within {timeout:.0f} s") from None


_events = _EventLoop()


class QmpClient:
    """Connection to the monitor of one QEMU.

    :param path: Unix socket of the monitor.
    :param name: name of the machine, for error messages.
    :param timeout: seconds for the connection and the greeting.
    :raises HarnessFailed: the connection is refused, or the server does not speak QMP.
    """

    def __init__(self, path: Path, name: str = "qemu", timeout: float = TIMEOUT) -> None:
        self.name = name
        self._client = QMPClient(name)
        try:
            connection = connect_unix(path, timeout)
        except OSError as error:
            raise HarnessFailed(f"the monitor of {name!r} cannot be reached: {error}", where=str(path)) from error
        try:
            with self._faults("the greeting"):
                _events.run(self._client.connect(connection), f"with its greeting ({name})", timeout)
        except HarnessFailed:
            # After a timeout the library still reads in the background. Shutting the socket down stops that.
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            self.close()
            raise

    @contextlib.contextmanager
    def _faults(self, command: str) -> Iterator[None]:
        try:
            yield
        except ExecuteError as error:
            raise QmpRefused(command, error.error_class, str(error)) from error
        except (ExecInterruptedError, ConnectError, QMPError, OSError, EOFError) as error:
            raise HarnessFailed(f"the monitor of {self.name!r} was lost during {command}: {error}") from error

    def execute(self, command: str, timeout: float = TIMEOUT, **arguments: object) -> Any:
        """Run one QMP command and return its ``return`` value.

        :param command: QMP name, such as ``query-status``.
        :param timeout: seconds to wait for the answer.
        :param arguments: arguments of the command; ``_`` in a name stands for ``-``.
        :raises QmpRefused: QEMU answered with an error.
        :raises HarnessFailed: the timeout expired, or the connection broke.
        """
        named = {key.replace("_", "-"): value for key, value in arguments.items()}
        return self._ask(command, named, f"`{command}`", timeout)

    def human(self, line: str, timeout: float = TIMEOUT) -> str:
        """Run one line of the human monitor and return its output, for the few things that QMP lacks."""
        return str(self._ask("human-monitor-command", {"command-line": line}, f"`{line}`", timeout))

    def _ask(self, command: str, arguments: dict[str, object], what: str, timeout: float) -> Any:
        async def ask() -> object:
            return await self._client.execute(command, arguments or None)

        with self._faults(what):
            return _events.run(ask(), what, timeout)

    def close(self) -> None:
        """Close the connection. Never raises: QEMU may already be gone."""
        # disconnect() raises whatever broke the connection earlier, even assertion errors of the library.
        with contextlib.suppress(Exception):
            _events.run(self._client.disconnect(), "the end of the connection", 5)
