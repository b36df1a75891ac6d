"""Progress of long operations on standard error: a bar on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterable
from types import TracebackType
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

#: Seconds between two lines in a log.
LINE_EVERY = 5.0


def human(size: float) -> str:
    """Format a number of bytes, such as `81.3 MB`."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


class Bytes:
    """Progress of a known number of files; a thread-safe context manager.

    :param title: name of the operation.
    :param files: total number of files.
    :param size: total number of bytes. If it is not known, the bar counts files.
    :param stream: stream to write to, by default standard error.
    """

    def __init__(self, title: str, files: int, size: int | None, stream: TextIO | None = None) -> None:
        self.title, self.files, self.size = title, files, size
        self.stream = stream or sys.stderr
        self.done_files = self.done_bytes = 0
        self._mutex = threading.Lock()
        self._began = self._last = time.monotonic()
        self._bar: Progress | None = None
        self._task = TaskID(0)

    def __enter__(self) -> Bytes:
        if self.stream.isatty():
            console = Console(file=self.stream)
            columns = [] if self.size is None else [DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()]
            self._bar = Progress(
                TextColumn("{task.description}"), BarColumn(), *columns, console=console,
            )  # fmt: skip
            self._bar.start()
            self._task = self._bar.add_task(self.title, total=self.files if self.size is None else self.size)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()
        elif kind is None and self.files:
            self._print()

    def advance(self, count: int) -> None:
        """Add a number of bytes, which is negative if a transfer starts over."""
        with self._mutex:
            self.done_bytes += count
            self._show()

    def finish(self) -> None:
        """Count one more complete file."""
        with self._mutex:
            self.done_files += 1
            self._show()

    def _show(self) -> None:
        if self._bar:
            what = f"{self.title} {self.done_files}/{self.files}"
            self._bar.update(
                self._task, completed=self.done_files if self.size is None else self.done_bytes, description=what
            )
        elif time.monotonic() - self._last >= LINE_EVERY:
            self._last = time.monotonic()
            self._print()

    def _print(self) -> None:
        of = "" if self.size is None else f" of {human(self.size)}"
        took = time.monotonic() - self._began
        print(
            f"{self.title}: {self.done_files} of {self.files} files, {human(self.done_bytes)}{of}, {took:.0f} s",
            file=self.stream,
            flush=True,
        )


class Board:
    """Last status line of several machines: a live table on a terminal, plain lines in a log.

    :param names: names of the rows, in order.
    :param stream: stream to write to, by default standard error.
    """

    def __init__(self, names: Iterable[str], stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stderr
        self.lines: dict[str, tuple[float, str]] = dict.fromkeys(names, (0.0, "waits"))
        self._began = time.monotonic()
        self._mutex = threading.Lock()
        self._live: Live | None = None

    def __enter__(self) -> Board:
        if self.stream.isatty():
            self._live = Live(self._table(), console=Console(file=self.stream), auto_refresh=False)
            self._live.start()
        return self

    def report(self, name: str, line: str) -> None:
        """Show a new status line. Thread-safe."""
        seconds = time.monotonic() - self._began
        with self._mutex:
            self.lines[name] = seconds, line
            if self._live:
                self._live.update(self._table(), refresh=True)
            else:
                print(f"{name}: {seconds:4.0f} s  {line}", file=self.stream, flush=True)

    def _table(self) -> Table:
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        for name, (seconds, line) in self.lines.items():
            table.add_row(name, f"{seconds:.0f} s", line)
        return table

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()
