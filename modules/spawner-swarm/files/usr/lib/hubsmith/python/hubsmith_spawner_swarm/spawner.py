"""The Swarm spawner: notebook servers as services of a Docker Swarm, with homes from the master by NFS."""

from __future__ import annotations

import asyncio
import html
import json
import secrets
import time
from collections.abc import AsyncIterator, Awaitable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from docker.errors import APIError, DockerException
from docker.types import Mount, RestartPolicy
from dockerspawner import SwarmSpawner
from requests import RequestException
from traitlets import Bool, Dict, Float, Integer, List, Set, Unicode, default

from hubsmith_jupyterhub.errors import SpawnFailure
from hubsmith_jupyterhub.usage import home_usage

#: Name of the image that workers contain (`modules/docker`), and its start command.
BUNDLED = "localhost:1/notebook:bundled"
BUNDLED_COMMAND = ["/usr/lib/hubsmith/notebook/singleuser"]
#: Path of the homes on each node (on the master, a bind mount).
HOMES = "/var/lib/homes"
#: Path of the user's home in the container.
HOME = "/home/jovyan"
#: Facts about the Swarm, written by `modules/swarm-manager`.
SWARM_FILE = Path("/run/hubsmith/swarm.json")
#: Container that is on the network of every server, and the hub's host name on these networks.
PLACE, HUB = "hubsmith-place", "hub"
LABEL = "hubsmith.user"
#: Overhead of VXLAN in bytes.
VXLAN = 50
#: Restarts of a failed server within ten minutes. Servers of a lost worker are always restarted.
ATTEMPTS, WINDOW = 3, 600 * 10**9
#: Seconds to wait for a node with free resources. Those of the same user's previous server may not be free yet.
NO_PLACE = 30
#: Limit of processes and threads of one server.
PIDS = 1024
#: Parallel calls of the engine. Some take seconds, and others must not wait for them.
CALLS = 8
#: Final states of a task. FAILED are those it reaches by itself; in the others Swarm has moved or removed it.
FAILED = ("complete", "failed", "rejected")
ENDED = (*FAILED, "orphaned", "remove", "shutdown")
#: Messages for some states of a task.
DOING = {"preparing": "The worker gets the container image.", "starting": "The container starts."}

EXECUTOR = ThreadPoolExecutor(CALLS)
#: The engine attaches containers one after the other, with a timeout of 20 s each. If a whole class started at the same
#: time, the last ones would time out.
ATTACHING = asyncio.Lock()


class NotStarted(SpawnFailure):
    """The Swarm could not start the server. The sentence contains Swarm's message."""

    code = 503

    def __init__(self, words: str) -> None:
        self.sentence = f"The server could not be started: {words}"
        super().__init__()


def goes_on(tasks: list[dict[str, Any]]) -> bool:
    """Whether Swarm keeps one of a service's tasks running, or is starting one."""
    return any(task["DesiredState"] in ("ready", "running") for task in tasks)


class HomeSwarmSpawner(SwarmSpawner):
    """Spawner that runs each user's server as a Swarm service with one task, on a network shared with the hub only."""

    admins = Set(Unicode(), help="Users who may write to the shared folder.").tag(config=True)
    shared = Bool(help="Whether there is a shared folder.").tag(config=True)
    memory = Integer(help="Bytes of memory, reserved and at most.").tag(config=True)
    cpu = Float(help="Processors, reserved and at most.").tag(config=True)
    own_image = Unicode(help="Instead of the image that the workers bring.").tag(config=True)
    profiles = List(Dict(), help="Kinds of servers to choose from.").tag(config=True)
    cull_kernels_after = Integer(help="Seconds.").tag(config=True)
    on_master = Bool(help="Whether servers may run on the machine of the hub.").tag(config=True)
    said = Unicode(help="What the Swarm does with the server just now.")

    @property
    def executor(self) -> ThreadPoolExecutor:
        """Threads that call the engine, shared by all servers."""
        return EXECUTOR

    @default("name_template")
    def _name_template(self) -> str:
        return "notebook-{username}"

    @default("use_internal_ip")
    def _use_internal_ip(self) -> bool:
        return True

    # Kinds of servers

    @default("options_form")
    def _options_form(self) -> str:
        if not self.profiles:
            return ""
        rows = []
        for number, profile in enumerate(self.profiles):
            memory, cpu = profile["memory"] or self.memory, profile["cpu"] or self.cpu
            label = f"{html.escape(profile['name'])} <small>({memory / 2**30:g} GiB, {cpu:g} CPU)</small>"
            checked = " checked" if number == 0 else ""
            rows.append(
                f'<div class="form-check"><input class="form-check-input" type="radio" name="profile" id="p{number}" '
                f'value="{number}"{checked}><label class="form-check-label" for="p{number}">{label}</label></div>'
            )
        return "".join(rows)

    def options_from_form(self, data: dict[str, list[str]]) -> dict[str, Any]:
        """Return the profile that the user chose; nothing else is taken from the form."""
        try:
            number = int(data.get("profile", ["0"])[0])
        except ValueError:
            number = 0
        return {"profile": number} if 0 <= number < len(self.profiles) else {}

    def _choose(self) -> None:
        number = self.user_options.get("profile", 0)  # by the API it can be anything
        known = isinstance(number, int) and 0 <= number < len(self.profiles)
        chosen = self.profiles[number] if known else next(iter(self.profiles), {})
        self.mem_limit = self.mem_guarantee = chosen.get("memory") or self.memory
        self.cpu_limit = self.cpu_guarantee = chosen.get("cpu") or self.cpu
        self.image = chosen.get("image") or self.own_image or BUNDLED
        self.cmd = BUNDLED_COMMAND if self.image == BUNDLED else ["jupyterhub-singleuser"]
        self.args = [f"--MappingKernelManager.cull_idle_timeout={self.cull_kernels_after}"]

    # The service

    async def start(self) -> tuple[str, int]:
        """Start the service and wait until its task runs.

        :raises NotStarted: the Swarm rejects it, or has no node for it.
        """
        self.said = ""
        self._choose()
        self.user_options.pop("image", None)
        await self._new_network()
        self.volumes: dict[str, str | dict[str, str]] = {f"{HOMES}/{self.user.name}": HOME}
        if self.shared:
            mode = "rw" if self.user.name in self.admins else "ro"
            self.volumes[f"{HOMES}/shared"] = {"bind": "/home/shared", "mode": mode}
        labels = {LABEL: self.user.name}
        self.extra_create_kwargs = {"labels": labels}
        self.extra_container_spec = {
            "user": "1000:100", "init": True, "cap_drop": ["ALL"], "hostname": "notebook", "read_only": True,
            "labels": labels,
        }  # fmt: skip
        self.extra_placement_spec = {} if self.on_master else {"constraints": ["node.role==worker"]}
        self.extra_task_spec = {
            "restart_policy": RestartPolicy("on-failure", delay=2 * 10**9, max_attempts=ATTEMPTS, window=WINDOW)
        }
        place = await super().start()
        await self._answers(*place)
        return place

    async def _answers(self, address: str, port: int) -> None:
        """Wait until the server accepts connections. The hub cancels this after its timeout.

        :raises NotStarted: the server ended instead.
        """
        while True:
            try:
                async with asyncio.timeout(5):
                    _, writer = await asyncio.open_connection(address, port)
                writer.close()
                return
            except OSError:  # a TimeoutError is one, too
                tasks = await self.docker("tasks", filters={"service": self.service_name})
            fatal = FAILED if goes_on(tasks) else ENDED
            if ended := [task["Status"] for task in tasks if task["Status"]["State"] in fatal]:
                words = [ended[0].get("Err", ""), await self._last_words()]
                raise NotStarted(": ".join(word for word in words if word) or f"it is {ended[0]['State']}")
            await asyncio.sleep(1)

    async def _last_words(self) -> str:
        """Return the last line of the server's log; empty if the engine cannot get it."""

        def read() -> bytes:
            return b"".join(self.client.service_logs(self.service_name, stdout=True, stderr=True, tail=5))

        try:
            output = await asyncio.wrap_future(EXECUTOR.submit(read))
        except (DockerException, RequestException) as error:
            self.log.warning("%s: no log: %s", self.service_name, type(error).__name__)
            return ""
        return next(
            (line.strip() for line in reversed(output.decode(errors="replace").splitlines()) if line.strip()), ""
        )

    def get_env(self) -> dict[str, str]:
        """Return the server's environment. Runtime files are not in the home, which may be full."""
        return super().get_env() | {"JUPYTER_RUNTIME_DIR": "/tmp/jupyter-runtime"}

    @property
    def mounts(self) -> list[Mount]:
        """Mounts of the home and of temporary folders in memory, because all users share the disk."""
        room = int(self.mem_limit) // 4
        rooms = [Mount(path, None, "tmpfs", tmpfs_size=room) for path in ("/tmp", "/var/tmp", "/run")]
        return [*super().mounts, *rooms]

    def docker(self, method: str, *args: Any, **kwargs: Any) -> Awaitable[Any]:
        """Call the engine."""
        if method == "create_service":  # docker-py has no parameter for it
            kwargs["task_template"]["Resources"]["Limits"]["Pids"] = PIDS
        return super().docker(method, *args, **kwargs)

    # The network

    def get_state(self) -> dict[str, Any]:
        """Return the state that a restarted hub needs, including the network."""
        return {**super().get_state(), "network_name": self.network_name}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore the state, including the network."""
        super().load_state(state)
        self.network_name = state.get("network_name", "")

    async def _new_network(self) -> None:
        """Create a network for the server and attach the hub to it.

        Each start gets a new network, because a worker may not have removed the previous one yet.
        """
        await self._remove_networks()
        name = f"notebook-{self.user.id}-{secrets.token_hex(4)}"
        mtu = json.loads(SWARM_FILE.read_text())["mtu"] - VXLAN
        async with ATTACHING:
            await self.docker(
                "create_network", name, driver="overlay", attachable=True, labels={LABEL: self.user.name},
                options={"com.docker.network.driver.mtu": str(mtu)},
            )  # fmt: skip
            await self.docker("connect_container_to_network", PLACE, name, aliases=[HUB])
        self.network_name = name

    async def _remove_networks(self) -> None:
        """Detach the hub from this user's networks and remove them. Those still in use are left for the next call."""
        for network in await self.docker("networks", filters={"label": f"{LABEL}={self.user.name}"}):
            for method, *words in (("disconnect_container_from_network", PLACE), ("remove_network",)):
                try:
                    await self.docker(method, *words, network["Id"])
                except APIError as error:
                    self.log.info("%s: %s", network["Name"], error.explanation)

    async def start_object(self) -> None:
        """Wait until the task runs. Fail at once, with Swarm's message, if it cannot run.

        :raises NotStarted: the task failed, or no node has the resources for it.
        """
        placed_by = time.monotonic() + NO_PLACE
        while True:
            tasks = await self.docker("tasks", filters={"service": self.service_name})
            newest = max(tasks, key=lambda task: task["CreatedAt"])
            status = newest["Status"]
            state, words = status["State"], status.get("Err", "")
            if state == "running":
                return
            no_place = state == "pending" and words and time.monotonic() > placed_by
            if no_place or state in ENDED:
                raise NotStarted(words or f"it is {state}")
            self.said = words or DOING.get(state, "The server is being placed on a worker.")
            await asyncio.sleep(0.5)

    async def poll(self) -> int | None:
        """Return None while Swarm keeps the server running or restarts it, for example on another worker.

        If the engine does not answer, the server counts as running. Otherwise the result is its exit code.
        """
        try:
            await self.docker("inspect_service", self.service_name)
            tasks = await self.docker("tasks", filters={"service": self.service_name})
        except APIError as error:
            if error.response is not None and error.response.status_code == 404:
                return 0
            self.log.warning("%s: %s", self.service_name, error.explanation)
            return None
        except (DockerException, RequestException) as error:
            self.log.warning("%s: the engine does not answer: %s", self.service_name, type(error).__name__)
            return None
        if not tasks or goes_on(tasks):
            return None
        last = max(tasks, key=lambda task: task["CreatedAt"])["Status"]
        return int(last.get("ContainerStatus", {}).get("ExitCode") or 0)

    async def get_ip_and_port(self) -> tuple[str, int]:
        """Return the service's virtual address, which does not change if its task moves to another worker, and port."""
        service = await self.docker("inspect_service", self.service_name)
        network = await self.docker("inspect_network", self.network_name)
        for one in service["Endpoint"]["VirtualIPs"]:
            if one["NetworkID"] == network["Id"]:
                return one["Addr"].partition("/")[0], self.port
        raise NotStarted("the service has no address on the user's network")

    async def stop(self, now: bool = False) -> None:
        """Remove the service and its network."""
        try:
            await super().stop(now)
        finally:
            await self._remove_networks()

    async def progress(self) -> AsyncIterator[dict[str, Any]]:
        """Yield messages for the user who waits for the server."""
        if warning := home_usage(self.user.name):
            yield {"progress": 10, "message": warning}
        last = ""
        while True:
            if self.said != last:
                last = self.said
                yield {"progress": 40, "message": last}
            await asyncio.sleep(0.5)
