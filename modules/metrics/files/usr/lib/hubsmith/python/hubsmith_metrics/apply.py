"""Start or stop the metrics exporter. Reads apply's JSON on standard input."""

from __future__ import annotations

from hubsmith.guest.context import read_context
from hubsmith.guest.programs import run


def main() -> None:
    allowed = read_context()["settings"]["metrics"]["allow"]
    run("systemctl", "start" if allowed else "stop", "prometheus-node-exporter.service")


if __name__ == "__main__":
    main()
