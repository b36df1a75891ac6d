"""`spawner.kind = "swarm"`: servers as services of a Docker Swarm."""

import json
from pathlib import Path

from traitlets.config import Config

c: Config  # from the loader
rendered = json.loads(Path("/run/hubsmith/spawner-swarm.json").read_text())

if rendered["kind"] == "swarm":
    from hubsmith_spawner_swarm.spawner import HomeSwarmSpawner

    c.JupyterHub.spawner_class = HomeSwarmSpawner
    # The hub is in the network namespace of its container, which is on every user's network and on none of the machine.
    # The proxy is there, too. Servers reach the hub by a host name.
    c.JupyterHub.hub_bind_url = "http://0.0.0.0:881"
    c.JupyterHub.hub_connect_url = "http://127.0.0.1:881"
    c.HomeSwarmSpawner.hub_connect_url = "http://hub:881"
    c.HomeSwarmSpawner.admins = set(rendered["admins"])
    c.HomeSwarmSpawner.on_master = rendered["on_master"]
    c.HomeSwarmSpawner.shared = rendered["shared"]
    c.HomeSwarmSpawner.memory = rendered["memory"]
    c.HomeSwarmSpawner.cpu = rendered["cpu"]
    c.HomeSwarmSpawner.own_image = rendered["image"] or ""
    c.HomeSwarmSpawner.profiles = rendered["profiles"]
    c.HomeSwarmSpawner.cull_kernels_after = rendered["cull_kernels_after"]
    c.HomeSwarmSpawner.start_timeout = rendered["start_timeout"]
    c.HomeSwarmSpawner.http_timeout = rendered["start_timeout"]
