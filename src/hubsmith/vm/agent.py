"""The QEMU guest agent, for the one thing that SSH cannot do: run a command in a guest without a network.

Its protocol is like QMP's without a greeting; a connection begins with ``guest-sync``, so that an answer to somebody
who hung up is not taken for ours (https://qemu-project.gitlab.io/qemu/interop/qemu-ga-ref.html).
"""

from __future__ import annotations

import base64
import json
import random
import time
from pathlib import Path
from typing import Any

from hubsmith.errors import HarnessFailed, ImageFailed
from hubsmith.vm.paths import connect_unix
from hubsmith.vm.ssh import Done


class Agent:
    """The agent of one guest.

    :param path: the machine's socket for it.
    :param timeout: seconds for each answer.
    :raises HarnessFailed: the machine is off.
    :raises ImageFailed: the agent does not answer.
    """

    def __init__(self, path: Path, timeout: float = 30) -> None:
        try:
            self._socket = connect_unix(path, timeout)
        except OSError as error:
            raise HarnessFailed(f"the guest agent's socket: {error}", where=str(path)) from error
        self._deadline, self._timeout, self._buffer = 0.0, timeout, b""
        token = random.randrange(2**31)
        self._send("guest-sync", {"id": token})
        while self._receive().get("return") != token:
            pass

    def call(self, command: str, **arguments: object) -> Any:
        """Run one of the agent's commands.

        :raises ImageFailed: it refused, or did not answer.
        """
        self._send(command, {key.replace("_", "-"): value for key, value in arguments.items()})
        answer = self._receive()
        if "error" in answer:
            raise ImageFailed(f"the guest agent refused {command}: {answer['error'].get('desc')}")
        return answer["return"]

    def execute(self, *argv: str, timeout: float = 60) -> Done:
        """Run a program as root and wait for its end.

        :raises ImageFailed: it took longer than ``timeout`` seconds.
        """
        pid = self.call("guest-exec", path=argv[0], arg=list(argv[1:]), capture_output=True)["pid"]
        deadline = time.monotonic() + timeout
        while not (status := self.call("guest-exec-status", pid=pid))["exited"]:
            if time.monotonic() > deadline:
                raise ImageFailed(f"{argv[0]} did not end within {timeout:.0f} s")
            time.sleep(0.2)
        out, err = (base64.b64decode(status.get(key, "")).decode(errors="replace") for key in ("out-data", "err-data"))
        return Done(" ".join(argv), status.get("exitcode", 128 + status.get("signal", 0)), out, err)

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def __enter__(self) -> Agent:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, command: str, arguments: dict[str, object]) -> None:
        self._deadline = time.monotonic() + self._timeout
        self._socket.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")

    def _receive(self) -> dict[str, Any]:
        while b"\n" not in self._buffer:
            left = self._deadline - time.monotonic()
            self._socket.settimeout(max(0.01, left))
            try:
                piece = self._socket.recv(65536) if left > 0 else b""
            except TimeoutError:
                piece = b""
            if not piece:
                raise ImageFailed(f"the guest agent did not answer within {self._timeout:.0f} s")
            self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\n")
        try:
            # The agent may mark a fresh start by a byte that is no JSON.
            return dict(json.loads(line.lstrip(b"\xff")))
        except ValueError:
            return {}
