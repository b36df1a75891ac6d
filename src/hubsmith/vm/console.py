"""The serial console: what the machine said, what to type, and what must never appear on it."""

from __future__ import annotations

import os
import re
from pathlib import Path

from hubsmith.errors import HarnessFailed

#: The guest is dead or about to be; waiting for anything else is in vain.
FATAL = re.compile(
    r"Kernel panic - not syncing"
    r"|end Kernel panic"
    r"|You are in emergency mode"
    r"|Entering emergency mode"
    r"|Attempted to kill init"
    r"|systemd\[1\]: Freezing execution"
    r"|KVM internal error",
)
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[P_^X][^\x1b]*\x1b\\|[ -/]*[0-~])")


def plain(text: str) -> str:
    """Text without terminal escapes and carriage returns."""
    return _ESCAPES.sub("", text).replace("\r", "").replace("\0", "")


class Console:
    """The console of one machine; its log grows over all of the machine's starts.

    A console on a socket would lose what is typed and not yet read when the typist hangs up, and would stall the guest
    when somebody listens and does not read. A FIFO that QEMU itself holds open does neither.

    :param log: what the machine prints.
    :param keyboard: the FIFO that QEMU reads.
    """

    def __init__(self, log: Path, keyboard: Path) -> None:
        self.log, self.keyboard = log, keyboard

    def prepare(self) -> None:
        """Make the files that QEMU opens."""
        if not self.keyboard.exists():
            os.mkfifo(self.keyboard, 0o600)
        if not (out := self.keyboard.with_suffix(".out")).is_symlink():
            out.symlink_to(os.devnull)

    def size(self) -> int:
        """Bytes logged so far: a place for the ``since`` of the other methods."""
        return self.log.stat().st_size if self.log.exists() else 0

    def text(self, since: int = 0) -> str:
        """What was printed after a place, for people: no escapes, invalid UTF-8 replaced."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as stream:
            stream.seek(since)
            return plain(stream.read().decode(errors="replace"))

    def tail(self, lines: int = 25, since: int = 0) -> str:
        """The last lines that are not empty."""
        return "\n".join([line for line in self.text(since).splitlines() if line.strip()][-lines:])

    def search(self, pattern: str | re.Pattern[str], since: int = 0) -> re.Match[str] | None:
        """The first match after a place; ``^`` and ``$`` are ends of lines."""
        return re.search(pattern, self.text(since), 0 if isinstance(pattern, re.Pattern) else re.MULTILINE)

    def fatal(self, since: int = 0) -> str | None:
        """The line that says that the guest is dead, when there is one."""
        found = FATAL.search(text := self.text(since))
        return None if found is None else text[text.rfind("\n", 0, found.start()) + 1 :].splitlines()[0].strip()

    def send(self, text: str) -> None:
        """Type on the console.

        :raises HarnessFailed: the machine is off.
        """
        try:
            # Without waiting for a reader: there is none only when the machine is off.
            handle = os.open(self.keyboard, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            raise HarnessFailed(f"the console takes no input: {error.strerror}", where=str(self.keyboard)) from error
        try:
            os.write(handle, text.encode())
        except BlockingIOError:
            raise HarnessFailed("the guest does not read its console", where=str(self.keyboard)) from None
        finally:
            os.close(handle)
