"""A workshop as the tests see it: what an operator does, who comes, and where their servers are."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hub_client import HubClient
from requests import RequestException

from hubsmith.deploy.fleet import Fleet
from hubsmith.deploy.qemu import LAN
from hubsmith.vm.linux import Machine
from hubsmith.vm.switch import PersistentLan
from hubsmith.vm.waits import scaled, wait_until

#: Seconds until a server in a container answers, under emulation with both processors busy.
SPAWN = 600


def hubsmith(*words: str | Path) -> str:
    """Run a verb as an operator does; what it prints on standard output."""
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from hubsmith.cli import main; sys.exit(main())", *map(str, words)],
        stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    return done.stdout


class Workshop:
    """A master and workers, and who comes to them."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet

    @property
    def lan(self) -> PersistentLan:
        """The private network."""
        return PersistentLan(self.fleet.record.folder / f"lan-{LAN}")

    @contextmanager
    def machine(self, name: str) -> Iterator[Machine]:
        """One of them, which runs."""
        with self.fleet.machines()[name].running() as machine:
            yield machine

    def on(self, name: str, command: str, timeout: float = 60) -> str:
        """What a command as root prints."""
        with self.machine(name) as machine:
            return machine.succeed(command, timeout=timeout)

    def password(self, name: str) -> str:
        """Somebody's one-time password."""
        return str(self.fleet.record.read("credentials.json")["master"][name])

    def person(self, name: str) -> HubClient:
        """Somebody who has logged in."""
        with self.machine("master") as master:
            return HubClient(master.url, name, timeout=scaled(120)).login(self.password(name))

    def at_work(self, name: str) -> HubClient:
        """Somebody whose server runs; it is started when it does not."""
        client = self.person(name)
        client.spawn(scaled(SPAWN))
        return client

    def all_at_work(self, *names: str) -> list[HubClient]:
        """The same for several at once."""
        with ThreadPoolExecutor() as pool:
            return list(pool.map(self.at_work, names))

    def answers(self, client: HubClient) -> bool:
        """Whether somebody's server lets its owner in."""
        try:
            page = client.request("GET", f"/user/{client.name}/lab", timeout=scaled(60))
        except RequestException:
            return False
        return page.status_code == 200 and page.url.startswith(f"{client.base}/user/{client.name}/lab")

    def nodes(self) -> dict[str, str]:
        """The status of each node: `Ready`, `Down`, … A node that has just joined has no name yet, and is left out."""
        rows = self.on("master", "docker node ls --format '{{.Hostname}}|{{.Status}}'").splitlines()
        named = (row.split("|") for row in rows)
        return {name: state for name, state in named if name}

    def places(self) -> dict[str, str]:
        """On which machine each running server is, by user."""
        rows = self.on(
            "master", "docker service ls --quiet | xargs -r docker service ps --filter desired-state=running "
            "--format '{{.Name}} {{.Node}} {{.CurrentState}}'",
        )  # fmt: skip
        found = (row.split() for row in rows.splitlines())
        return {
            name.removeprefix("notebook-").rpartition(".")[0]: node
            for name, node, state, *_ in found
            if state == "Running"
        }

    def wait(self, what: str, check: Callable[[], object], timeout: float = 300) -> None:
        """Until that is so."""
        wait_until(what, check, timeout=timeout, interval=2)


def shipped(root: Path) -> dict[str, Any]:
    """The content of ``hosts/workshop-swarm.toml``, with time for an emulated processor."""
    content: dict[str, Any] = tomllib.loads((root / "hosts/workshop-swarm.toml").read_text())
    content["hosts"]["master"]["settings"]["spawner"] |= {"start_timeout": "15m", "cpu": 1}
    return content


@contextmanager
def deployment(root: Path, folder: Path, content: dict[str, Any]) -> Iterator[Workshop]:
    """Bring it up, with its state in a folder of the test; at the end nothing is left of it."""
    file = folder / "hosts" / "workshop.toml"
    file.parent.mkdir()
    file.write_text(tomli_w.dumps(content))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HUBSMITH_STATE", str(folder / "state"))
        try:
            hubsmith("up", file)
            yield Workshop(Fleet(root, file))
        finally:
            hubsmith("down", file, "--delete")
