"""Notebook servers as services of a Docker Swarm, with the user's home from the master."""

from __future__ import annotations

import asyncio
import html
from pathlib import Path
from typing import Any

from docker.errors import APIError, DockerException
from docker.types import RestartPolicy
from dockerspawner import SwarmSpawner
from requests import RequestException
from told import Told
from traitlets import Bool, Dict, Float, Integer, List, Set, Unicode, default
from usage import home_usage

#: The image that workers bring, and how it is started.
BUNDLED = "hubsmith/notebook:bundled"
BUNDLED_COMMAND = ["/usr/lib/hubsmith/notebook/singleuser"]
#: Where each node has the homes (the master: a bind mount of its own).
HOMES = "/var/lib/homes"
#: The container that is on every user's network, and what the hub is called there.
PLACE, HUB = "hubsmith-place", "hub"
LABEL = "hubsmith.user"
#: Bytes that VXLAN puts around a frame.
VXLAN = 50
#: A server that ends in error is begun again so often within ten minutes; on a lost worker it always is.
ATTEMPTS, WINDOW = 3, 600 * 10**9
#: What Swarm does in some states of a task.
DOING = {"preparing": "The worker gets the container image.", "starting": "The container starts."}


class NotStarted(Told):
    """The Swarm could not start the server; it says why in its own words."""

    code = 503

    def __init__(self, words: str) -> None:
        self.sentence = f"The server could not be started: {words}"
        super().__init__()


class HomeSwarmSpawner(SwarmSpawner):
    """A service with one task for each user, on a network that only it and the hub are on."""

    admins = Set(Unicode(), help="Users who may write to the shared folder.").tag(config=True)
    shared = Bool(help="Whether there is a shared folder.").tag(config=True)
    memory = Integer(help="Bytes of memory, reserved and at most.").tag(config=True)
    cpu = Float(help="Processors, reserved and at most.").tag(config=True)
    own_image = Unicode(help="Instead of the image that the workers bring.").tag(config=True)
    profiles = List(Dict(), help="Kinds of servers to choose from.").tag(config=True)
    cull_kernels_after = Integer(help="Seconds.").tag(config=True)
    said = Unicode(help="What the Swarm does with the server just now.")

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
            told = f"{html.escape(profile['name'])} <small>({memory / 2**30:g} GiB, {cpu:g} CPU)</small>"
            checked = " checked" if number == 0 else ""
            rows.append(
                f'<div class="form-check"><input class="form-check-input" type="radio" name="profile" id="p{number}" '
                f'value="{number}"{checked}><label class="form-check-label" for="p{number}">{told}</label></div>'
            )
        return "".join(rows)

    def options_from_form(self, data: dict[str, list[str]]) -> dict[str, Any]:
        """The chosen kind; nobody else's numbers are taken from a form."""
        try:
            number = int(data.get("profile", ["0"])[0])
        except ValueError:
            number = 0
        return {"profile": number} if 0 <= number < len(self.profiles) else {}

    def _choose(self) -> None:
        number = self.user_options.get("profile", 0)
        chosen = self.profiles[number] if self.profiles and 0 <= number < len(self.profiles) else {}
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
        await self._network()
        self.volumes = {f"{HOMES}/{self.user.name}": "/home/jovyan"}
        if self.shared:
            mode = "rw" if self.user.name in self.admins else "ro"
            self.volumes[f"{HOMES}/shared"] = {"bind": "/home/shared", "mode": mode}
        self.extra_container_spec = {
            "user": "1000:100", "init": True, "cap_drop": ["ALL"], "hostname": "notebook",
            "labels": {LABEL: self.user.name},
        }  # fmt: skip
        self.extra_task_spec = {
            "restart_policy": RestartPolicy("on-failure", delay=2 * 10**9, max_attempts=ATTEMPTS, window=WINDOW)
        }
        return await super().start()

    async def _network(self) -> None:
        """The user's own network, with the hub on it."""
        name = f"notebook-{self.user.id}"
        found = await self.docker("networks", names=[f"^{name}$"])
        if not found:
            mtu = int(Path("/run/hubsmith/cluster-mtu").read_text()) - VXLAN
            await self.docker(
                "create_network", name, driver="overlay", attachable=True, labels={LABEL: self.user.name},
                options={"com.docker.network.driver.mtu": str(mtu)},
            )  # fmt: skip
        place = await self.docker("inspect_container", PLACE)
        if name not in place["NetworkSettings"]["Networks"]:
            await self.docker("connect_container_to_network", PLACE, name, aliases=[HUB])
        self.network_name = name

    async def start_object(self) -> None:
        """Wait until the task runs; fail at once with the Swarm's words when it cannot."""
        while True:
            tasks = await self.docker("tasks", filters={"service": self.service_name})
            newest = max(tasks, key=lambda task: task["CreatedAt"])
            status = newest["Status"]
            state, words = status["State"], status.get("Err", "")
            if state == "running":
                return
            if state in ("rejected", "failed", "orphaned", "remove") or (state == "pending" and words):
                raise NotStarted(words or state)
            self.said = DOING.get(state, "The server is being placed on a worker.")
            await asyncio.sleep(0.5)

    async def poll(self) -> int | None:
        """None while Swarm keeps the server running or begins it again, such as elsewhere when its worker is lost.

        That the engine cannot be asked says nothing of the server.
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
        if not tasks or any(task["DesiredState"] in ("ready", "running") for task in tasks):
            return None
        last = max(tasks, key=lambda task: task["CreatedAt"])["Status"]
        return int(last.get("ContainerStatus", {}).get("ExitCode") or 0)

    async def get_ip_and_port(self) -> tuple[str, int]:
        """The service's own address, which stays when its task moves to another worker."""
        service = await self.docker("inspect_service", self.service_name)
        network = await self.docker("inspect_network", self.network_name)
        for one in service["Endpoint"]["VirtualIPs"]:
            if one["NetworkID"] == network["Id"]:
                return one["Addr"].partition("/")[0], self.port
        raise NotStarted("the service has no address on the user's network")

    async def stop(self, now: bool = False) -> None:
        """Remove the service, and let the hub leave the user's network."""
        try:
            await super().stop(now)
        finally:
            await self._leave()

    async def _leave(self) -> None:
        name = f"notebook-{self.user.id}"
        try:
            await self.docker("disconnect_container_from_network", PLACE, name, force=True)
            await self.docker("remove_network", name)
        except APIError as error:  # its last task is still ending: the next start takes it over
            self.log.info("network %s stays: %s", name, error.explanation)

    async def progress(self):
        """What the person reads who waits for the server."""
        if told := home_usage(self.user.name):
            yield {"progress": 10, "message": told}
        last = ""
        while True:
            if self.said != last:
                last = self.said
                yield {"progress": 40, "message": last}
            await asyncio.sleep(0.5)
