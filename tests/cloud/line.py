"""The other end of ``proxy.py``: orders to it, and its record."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from project import Cloud

from hubsmith.testing.cloud.services import GLANCE

PORT = GLANCE + 100


class Line:
    """While it is open, the cloud's user reaches Glance by it only."""

    def __init__(self, cloud: Cloud, record: Path) -> None:
        self.cloud, self.record = cloud, record
        program = Path(__file__).with_name("proxy.py")
        argv = cloud.services.space.outside([sys.executable, program, str(PORT), str(GLANCE), record])
        self.process = subprocess.Popen(
            list(map(str, argv)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self._answer()
        cloud.by(PORT)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.communicate()
        self.cloud.by()

    def order(self, **how: int) -> int:
        """How it behaves from now on: ``cut``, ``flip``, ``hold``, ``pause``, or nothing wrong.

        :returns: how many bytes have passed since the last order.
        """
        assert self.process.stdin
        self.process.stdin.write(json.dumps(how) + "\n")
        self.process.stdin.flush()
        return int(self._answer())

    def wait_for_hold(self) -> None:
        """Until it has let pass what it was to let pass."""
        deadline = time.monotonic() + 60
        while not self.record.with_suffix(".held").exists():
            assert time.monotonic() < deadline, "nothing is held"
            assert self.process.poll() is None
            time.sleep(0.05)

    def requests(self) -> list[dict[str, Any]]:
        """All that was asked of Glance."""
        return [json.loads(text) for text in self.record.read_text().splitlines()]

    def _answer(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()
