"""`spawner.kind = "local"`: servers as processes of their users, each in a systemd unit."""

import json
from pathlib import Path

from traitlets.config import Config

c: Config  # from the loader
rendered = json.loads(Path("/run/hubsmith/spawner-local.json").read_text())

if rendered["kind"] == "local":
    from hubsmith_spawner_local.spawner import LocalSpawner

    c.JupyterHub.spawner_class = LocalSpawner
    c.LocalSpawner.admins = set(rendered["admins"])
    c.LocalSpawner.mem_limit = rendered["memory"]
    c.LocalSpawner.cpu_limit = rendered["cpu"]
    c.LocalSpawner.start_timeout = rendered["start_timeout"]
    c.LocalSpawner.http_timeout = rendered["start_timeout"]
