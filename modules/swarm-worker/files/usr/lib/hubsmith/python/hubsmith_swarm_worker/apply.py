"""Start the services of a Swarm worker."""

from __future__ import annotations

from hubsmith.guest.programs import run


def main() -> None:
    run("systemctl", "start", "--no-block", "hubsmith-swarm-worker.service", "hubsmith-swarm-leave.service")


if __name__ == "__main__":
    main()
