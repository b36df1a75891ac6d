"""Status item of the Swarm worker: prints the state that its service wrote."""

from __future__ import annotations

from pathlib import Path

from hubsmith.guest.status.answer import answer

STATE = Path("/run/hubsmith/worker-state.json")


def main() -> None:
    if STATE.exists():
        print(STATE.read_text())
    else:
        answer("starting", "not begun yet")


if __name__ == "__main__":
    main()
