"""The serial console: its log, its input, and the messages that mean the guest is dead."""

from __future__ import annotations

import os
import re
from pathlib import Path

from hubsmith.errors import HarnessFailed

#: Messages after which the guest makes no more progress.
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
    """Remove terminal escapes, carriage returns and NUL bytes."""
    return _ESCAPES.sub("", text).replace("\r", "").replace("\0", "")


class Console:
    """Console of one machine. The log grows across restarts.

    Input goes through a FIFO that QEMU holds open. A socket would lose unread input when the client disconnects, and
    would stall the guest if a client does not read.

    :param log: file with the guest's output.
    :param keyboard: FIFO for input.
    """

    def __init__(self, log: Path, keyboard: Path) -> None:
        self.log, self.keyboard = log, keyboard

    def prepare(self) -> None:
        """Create the files that QEMU opens."""
        if not self.keyboard.exists():
            os.mkfifo(self.keyboard, 0o600)
        if not (out := self.keyboard.with_suffix(".out")).is_symlink():
            out.symlink_to(os.devnull)

    def size(self) -> int:
        """Length of the log in bytes: an offset for ``since`` in the other methods."""
        return self.log.stat().st_size if self.log.exists() else 0

    def text(self, since: int = 0) -> str:
        """Return the output after an offset, without escapes and with invalid UTF-8 replaced."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as stream:
            stream.seek(since)
            return plain(stream.read().decode(errors="replace"))

    def tail(self, lines: int = 25, since: int = 0) -> str:
        """Return the last non-empty lines."""
        return "\n".join([line for line in self.text(since).splitlines() if line.strip()][-lines:])

    def search(self, pattern: str | re.Pattern[str], since: int = 0) -> re.Match[str] | None:
        """Return the first match after an offset. In a string pattern, ``^`` and ``$`` match at line ends."""
        return re.search(pattern, self.text(since), 0 if isinstance(pattern, re.Pattern) else re.MULTILINE)

    def fatal(self, since: int = 0) -> str | None:
        """Return the first line that means that the guest is dead, or None."""
        found = FATAL.search(text := self.text(since))
        return None if found is None else text[text.rfind("\n", 0, found.start()) + 1 :].splitlines()[0].strip()

    def send(self, text: str) -> None:
        """Type on the console.

        :raises HarnessFailed: the machine is off, or the guest does not read its console.
        """
        try:
            # Do not wait for a reader: if there is none, the machine is off.
            handle = os.open(self.keyboard, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            raise HarnessFailed(f"the console takes no input: {error.strerror}", where=str(self.keyboard)) from error
        try:
            os.write(handle, text.encode())
        except BlockingIOError:
            raise HarnessFailed("the guest does not read its console", where=str(self.keyboard)) from None
        finally:
            os.close(handle)
