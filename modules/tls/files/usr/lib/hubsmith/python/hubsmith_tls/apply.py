"""Publish the certificate that the settings ask for, and start the ACME client in the background if needed."""

from __future__ import annotations

from hubsmith.guest.context import read_context
from hubsmith.guest.programs import run


def main() -> None:
    mode = read_context()["settings"]["tls"]["mode"]
    run("/usr/sbin/hubsmith-certificate", "select")
    if mode == "letsencrypt":
        run("systemctl", "--no-block", "restart", "hubsmith-certificate.service")


if __name__ == "__main__":
    main()
