"""The local spawner's choice in `spawner.kind`."""

from __future__ import annotations

from hubsmith.settings.tables import choice

LOCAL = choice(
    "spawner.kind", "local", "processes of the user on this machine, each in a systemd unit of its own.", default=True
)
