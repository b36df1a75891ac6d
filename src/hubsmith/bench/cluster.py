"""Time until the servers of a workshop are ready, and load of the master per user.

Starting many servers at once is compared with dockerspawner on a single machine. That machine has the memory and the
processors of all workers together, the same container image, a JupyterHub set up as in a tutorial, and one network for
all servers.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import bcrypt
import tomli_w

from hubsmith.archives.cache import Cache
from hubsmith.bench import boot
from hubsmith.definition.load import read
from hubsmith.deploy.fleet import Fleet
from hubsmith.deploy.record import Record
from hubsmith.deploy.user_data import user_data
from hubsmith.output import Output
from hubsmith.run import run
from hubsmith.vm.hardware import Hardware
from hubsmith.vm.linux import Machine
from hubsmith.vm.metadata import Instance
from hubsmith.vm.ssh import write_config
from hubsmith.vm.testbed import Testbed

#: Numbers of servers started at once, and limits of each server.
CLASSES = (10, 20, 30)
MEMORY, CPU = "192M", 0.1
#: Memory in MiB of each of the two workers.
WORKER_MB = 4096
#: Timeout in seconds for one class under emulation.
LONGEST = 7200
NAMES = [f"student{number}" for number in range(1, max(CLASSES) + 1)]
#: Jetstream2's flavor m3.medium: MB of memory, and processors.
MEDIUM_MB, MEDIUM_CPUS = 30_000, 8
#: Seconds over which the processor load is averaged while no server starts.
CALM = 120

TUTORIAL = f"""
c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allow_all = True
c.Authenticator.allowed_users = set({NAMES!r})
c.JupyterHub.spawner_class = "dockerspawner.DockerSpawner"
c.JupyterHub.hub_ip = "172.20.0.1"
c.JupyterHub.hub_port = 8081
c.JupyterHub.bind_url = "http://127.0.0.1:8100"
c.JupyterHub.concurrent_spawn_limit = 100
c.ConfigurableHTTPProxy.command = ["/opt/configurable-http-proxy/bin/configurable-http-proxy"]
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:8101"
c.DockerSpawner.image = "hubsmith/notebook:bundled"
c.DockerSpawner.cmd = ["/usr/lib/hubsmith/notebook/singleuser"]
c.DockerSpawner.remove = True
c.DockerSpawner.use_internal_ip = True
c.DockerSpawner.volumes = {{"/var/tutorial/homes/{{username}}": "/home/jovyan"}}
c.DockerSpawner.mem_limit = "{MEMORY}"
c.DockerSpawner.cpu_limit = {CPU}
c.Spawner.start_timeout = c.Spawner.http_timeout = {LONGEST}
c.JupyterHub.services = [{{"name": "measure", "api_token": "measurement"}}]
c.JupyterHub.load_roles = [{{"name": "measure", "services": ["measure"], "scopes": ["list:users", "servers"]}}]
"""
#: Starts and stops the first N servers by the hub's API, and prints the seconds of the start.
CLIENT = f"""
import json, sys, time, urllib.request
names = {NAMES!r}[: int(sys.argv[1])]
def ask(method, path):
    call = urllib.request.Request("http://127.0.0.1:8100/hub/api/" + path, method=method)
    call.add_header("Authorization", "token measurement")
    with urllib.request.urlopen(call, timeout=600) as answer:
        return json.loads(answer.read() or b"null")
def count():
    servers = [user["servers"].get("") for user in ask("GET", "users") if user["name"] in names]
    if None in servers:
        sys.exit("a server did not start")
    return sum(server["ready"] for server in servers)
began = time.monotonic()
for name in names:
    ask("POST", f"users/{{name}}/server")
while count() < len(names):
    time.sleep(2)
print(time.monotonic() - began)
for name in names:
    ask("DELETE", f"users/{{name}}/server")
while any(user["servers"] for user in ask("GET", "users") if user["name"] in names):
    time.sleep(2)
"""


def report(line: str) -> None:
    """Print a line of progress."""
    print(f"bench: {line}", file=sys.stderr, flush=True)


def content_of(root: Path) -> dict[str, Any]:
    """Return `hosts/workshop-swarm.toml`, adapted to the benchmark."""
    content = read(root / "hosts/workshop-swarm.toml", root)
    settings = content["hosts"]["master"]["settings"]
    settings["hub"]["concurrent_spawn_limit"] = max(CLASSES)
    settings["spawner"] |= {"memory": MEMORY, "cpu": CPU, "start_timeout": "1h"}
    settings["users"] = [{"name": "teacher"}, *({"name": name} for name in NAMES)]
    content["hosts"]["worker"]["memory_mb"] = WORKER_MB
    content["deployment"]["name"] = "bench-cluster"
    return content


@contextmanager
def workshop(root: Path, folder: Path) -> Iterator[Fleet]:
    """Create the deployment and delete it at the end."""
    (folder / "hosts").mkdir()
    file = folder / "hosts" / "workshop.toml"
    file.write_text(tomli_w.dumps(content_of(root)))
    fleet = Fleet(root, file)
    try:
        yield fleet
    finally:
        fleet.down(lambda name, line: report(f"{name}: {line}"), orderly=False)
        Record(fleet.deployment.deployment.name).forget()


def used(machine: Machine) -> tuple[float, float]:
    """Return MB of memory in use, and seconds of processor time since boot."""
    memory = float(machine.succeed("free --mega | awk '/^Mem:/ { print $3 }'"))
    jiffies = [int(one) for one in machine.succeed("head -n 1 /proc/stat").split()[1:]]
    return memory, (sum(jiffies) - jiffies[3] - jiffies[4]) / 100


def load(machine: Machine) -> float:
    """Return the average number of processors in use while no server starts."""
    _, before = used(machine)
    time.sleep(CALM)
    return (used(machine)[1] - before) / CALM


def from_snapshots(fleet: Fleet) -> float:
    """Save a running workshop and return the seconds until it is ready again after restoring it."""
    with ExitStack() as stack:
        machines = [stack.enter_context(one.running()) for one in fleet.machines().values()]
        for machine in machines:
            machine.qmp.execute("stop")  # all at once, or they would notice that others are gone
        frozen = [machine.snapshot(machine.name, resume=False) for machine in machines]
        began = time.monotonic()
        for machine, snapshot in zip(machines, frozen, strict=True):
            machine.restore(snapshot)
        master = machines[0]
        master.wait_for_https("/hub/login", timeout=300)
        nodes = "docker node ls --format '{{.Status}}'"
        master.wait_until("all nodes", lambda: master.succeed(nodes).split() == ["Ready"] * len(machines), 300)
        return round(time.monotonic() - began, 1)


def ours(root: Path, folder: Path) -> dict[str, float]:
    """Measure the workshop: seconds by event, and load of the master."""
    found: dict[str, float] = {}
    with workshop(root, folder) as fleet:
        began = time.monotonic()
        fleet.up(lambda name, line: report(f"{name}: {line}"), wait=3600)
        found["up_seconds"] = round(time.monotonic() - began, 1)
        with fleet.machines()["master"].running() as master:
            master.succeed(f"hubsmith servers start {NAMES[0]}", timeout=LONGEST)
            found["first_notebook_seconds"] = round(time.monotonic() - began, 1)
            master.succeed(f"hubsmith servers stop {NAMES[0]}", timeout=600)
            idle, _ = used(master)
            calm = load(master)
            for number in CLASSES:
                began, (_, before) = time.monotonic(), used(master)
                names = " ".join(NAMES[:number])
                master.succeed(f"hubsmith servers start --timeout {LONGEST} {names}", timeout=LONGEST)
                found[f"swarm_{number}_seconds"] = round(time.monotonic() - began, 1)
                memory, after = used(master)
                found[f"master_mb_per_user_{number}"] = round((memory - idle) / number, 1)
                found[f"master_cpu_seconds_per_start_{number}"] = round((after - before) / number, 2)
                found[f"master_cpu_per_user_{number}"] = round((load(master) - calm) / number, 4)
                report(json.dumps(found))
                master.succeed(f"hubsmith servers stop --timeout {LONGEST} {names}", timeout=LONGEST)
            found["master_idle_mb"] = idle
            found["master_idle_cpus"] = round(calm, 3)
        found["up_from_snapshots_seconds"] = from_snapshots(fleet)
    # Use the largest class: with few users the hub's own memory distorts the result.
    memory, cpu = (found[f"master_{what}_per_user_{max(CLASSES)}"] for what in ("mb", "cpu"))
    found["users_by_memory_of_an_m3_medium"] = int((MEDIUM_MB - found["master_idle_mb"]) / max(memory, 0.1))
    found["users_by_emulated_cpus_of_an_m3_medium"] = int((MEDIUM_CPUS - calm) / max(cpu, 0.0001))
    return found


def tutorial(root: Path, testbed: Testbed) -> dict[str, float]:
    """Measure dockerspawner on one machine: seconds by class."""
    secret = bcrypt.hashpw(b"for this measurement only", bcrypt.gensalt(4)).decode()
    instance = Instance(hostname="tutorial", user_data=user_data(boot.SETTINGS.format(hash=secret)))
    hardware = Hardware(memory_mb=2 * WORKER_MB, cpus=4, disk_size_gb=20)
    machine = Machine(testbed, "tutorial", Output.of(root, "master").disk, hardware, instance=instance)
    machine.start()
    machine.wait_for_https("/hub/login", timeout=900)
    machine.wait_for_ssh(300)
    report("tutorial: loading the container image")
    config = write_config(machine.folder, machine.name, machine.port(22), machine.user, machine.key)
    archive = Output.of(root, "notebook").file
    run(["scp", "-F", config, archive, f"{machine.name}:/var/tmp/notebook.tar"], timeout=1800)
    machine.succeed("systemctl stop hubsmith-hub.target nftables; systemctl start docker", timeout=300)
    machine.succeed("docker load --quiet --input /var/tmp/notebook.tar", timeout=1800)
    homes = " ".join(f"/var/tutorial/homes/{name}" for name in NAMES)
    machine.succeed(f"mkdir -p {homes} && chown 1000:100 {homes} && cat > /var/tutorial/config.py", stdin=TUTORIAL)
    machine.succeed("cat > /var/tutorial/client.py", stdin=CLIENT)
    machine.succeed(
        "systemd-run --unit tutorial --working-directory /var/tutorial --setenv CONFIGPROXY_AUTH_TOKEN=measure "
        "/opt/jupyterhub/bin/python -I /opt/jupyterhub/bin/jupyterhub --config config.py"
    )

    def answers() -> bool:
        machine.succeed("systemctl is-active tutorial")
        return machine.execute("curl --fail http://127.0.0.1:8100/hub/health").rc == 0

    machine.wait_until("the tutorial's hub", answers, 300)
    found = {}
    for number in CLASSES:
        seconds = machine.succeed(f"python3 /var/tutorial/client.py {number}", timeout=LONGEST)
        found[f"dockerspawner_{number}_seconds"] = round(float(seconds), 1)
        report(json.dumps(found))
    machine.discard()
    return found


def measure(root: Path) -> dict[str, float]:
    """Run the benchmark: seconds, ratios, and load of the master per user."""
    with TemporaryDirectory(prefix="hubsmith-bench-", dir=Cache().folder.parent) as scratch, Testbed() as testbed:
        theirs = tutorial(root, testbed)
        mine = ours(root, Path(scratch))
    ratios = {
        f"swarm_to_dockerspawner_{number}": round(
            mine[f"swarm_{number}_seconds"] / theirs[f"dockerspawner_{number}_seconds"], 2
        )
        for number in CLASSES
    }
    return {**theirs, **mine, **ratios}
