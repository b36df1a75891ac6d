"""Parser of Nix's log in JSON lines (`--log-format internal-json`), in which parallel stages are interleaved.

The constants are from Nix's `src/libutil/logging.hh` (`ActivityType`, `ResultType`).
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from dataclasses import dataclass, field

log = logging.getLogger("hubsmith.build")

_ACTIVITY_BUILD = 105
_RESULT_LOG_LINE = 101
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
#: Number of lines of a failed stage's output in an error message.
TAIL = 25


@dataclass
class Watch:
    """Follows one build and reports its stages on standard error.

    :ivar stages: wall time in seconds of each stage that was built.
    """

    image: str
    stages: dict[str, float] = field(default_factory=dict)
    _planned: int = 0
    _running: dict[int, tuple[str, float]] = field(default_factory=dict)
    _derivations: dict[int, str] = field(default_factory=dict)
    _output: dict[int, list[str]] = field(default_factory=dict)
    _errors: list[str] = field(default_factory=list)

    def line(self, text: str) -> None:
        """Process one line of Nix's standard error."""
        if not text.startswith("@nix "):
            log.debug("%s", text)
            self._errors.append(text)
            return
        event = json.loads(text.removeprefix("@nix "))
        match event["action"], event.get("type"):
            case "start", kind if kind == _ACTIVITY_BUILD:
                self._derivations[event["id"]] = event["fields"][0]
                name = event["fields"][0].rpartition("/")[2][33:].removesuffix(".drv").removeprefix(f"{self.image}-")
                self._running[event["id"]] = (name, time.monotonic())
                count = len(self.stages) + len(self._running)
                self._tell(f"[{count}/{max(count, self._planned)}] {name}")
            case "stop", _ if event["id"] in self._running:
                name, since = self._running.pop(event["id"])
                self.stages[name] = round(time.monotonic() - since, 1)
                self._tell(f"{name} took {self.stages[name]:.1f} s")
            case "result", kind if kind == _RESULT_LOG_LINE:
                output = str(event["fields"][0])
                log.debug("%s", output)
                self._output.setdefault(event["id"], []).append(output)
            case "msg", _:
                self._message(event["level"], _COLOURS.sub("", event["msg"]))

    def _message(self, level: int, text: str) -> None:
        log.debug("%s", text)
        if text.startswith("  /nix/store/") and text.endswith(".drv"):
            self._planned += 1
        elif level == 0:
            self._errors.append(text)

    def _tell(self, text: str) -> None:
        print(f"build {self.image}: {text}", file=sys.stderr, flush=True)

    def failure(self) -> str:
        """Return Nix's errors, and the last lines of the output of the stages that failed."""
        tails = [
            line
            for activity, lines in self._output.items()
            if any(self._derivations[activity] in error for error in self._errors)
            for line in lines[-TAIL:]
        ]
        # Drop Nix's own quote of the output, which is shorter.
        return "\n".join([*(error.partition(";\n")[0] for error in self._errors), *tails])
