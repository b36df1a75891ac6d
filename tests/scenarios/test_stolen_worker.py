"""A worker is stolen: its root acts, with all that is on its disk, from its address in the network of the machines."""

from __future__ import annotations

import json
import secrets
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from workshop import Workshop, hubsmith

pytestmark = [pytest.mark.vm, pytest.mark.slow, pytest.mark.needs(memory_mb=8192)]

#: Seconds until a worker has joined, under emulation.
JOINED = 900
#: Ports of the master: homes, Swarm, join service, gossip.
PORTS = (2049, SWARM := 2377, JOIN := 2378, 7946)
#: Prints which of the master's ports answer; `source` is an address of this machine.
REACH = """
import socket
for port in {ports}:
    try:
        socket.create_connection(({master!r}, port), 5, source_address=({source!r}, 0)).close()
        print(port)
    except OSError:
        pass
"""
#: Prints the answer of the join service; None if there is none.
ASK = """
import json
from hubsmith_swarm_cluster.protocol import JoinDenied, NodeRequest, ask
request = NodeRequest({what!r}, {name!r}, {node!r})
try:
    answer = ask({master!r}, 2378, request, pinned={pin!r}, secret={secret!r})
except JoinDenied as error:
    answer = {{"denied": str(error)}}
except OSError:
    answer = None
print(json.dumps(answer))
"""


class Worker:
    """Root on a worker, with what its disk held when it was stolen."""

    def __init__(self, workshop: Workshop, name: str) -> None:
        self.workshop, self.name = workshop, name
        self.settings = json.loads(workshop.on(name, "cat /run/hubsmith/worker.json"))
        self.address = workshop.fleet.record.read("addresses.json")[name]
        self.node = workshop.on(name, "docker info --format '{{.Swarm.NodeID}}'").strip()

    def python(self, text: str) -> str:
        with self.workshop.machine(self.name) as machine:
            return machine.succeed("python3 -I -", stdin=text, timeout=120)

    def reaches(self, source: str = "") -> list[int]:
        """Which of the master's ports answer."""
        text = REACH.format(ports=PORTS, master=self.settings["manager"], source=source)
        return [int(line) for line in self.python(text).splitlines()]

    def ask(self, what: str, name: str, node: str) -> Any:
        """What the join service answers to a request with the stolen secret."""
        pinned, secret = self.settings["pin"], self.settings["secret"]
        text = ASK.format(
            master=self.settings["manager"], what=what, name=name, node=node, pin=pinned, secret=secret
        )  # fmt: skip
        return json.loads(self.python(text))

    def tries(self, command: str, timeout: float = 90) -> int:
        """The exit code of a command that may hang."""
        with self.workshop.machine(self.name) as machine:
            return machine.execute(f"timeout --signal=KILL {timeout - 30:.0f} {command}", timeout=timeout).rc


def write_secret(workshop: Workshop, name: str, secret: str) -> None:
    """What the operator does with an editor."""
    workshop.on(name, f"sed --in-place 's/^secret = .*/secret = \"{secret}\"/' /etc/hubsmith/settings.toml")


def new_secret(workshop: Workshop, secret: str, *names: str) -> None:
    """Put a secret into effect on machines, one after the other."""
    for name in names:
        write_secret(workshop, name, secret)
        workshop.on(name, "hubsmith apply", timeout=900)


def wait_for(workshop: Workshop, *names: str) -> None:
    """Wait until exactly these workers are in the Swarm."""
    wanted = {"master", *names}
    workshop.wait(
        " and ".join(names), lambda: {n for n, state in workshop.nodes().items() if state == "Ready"} == wanted, JOINED
    )


def swarm_of(workshop: Workshop) -> str:
    return workshop.on("master", "docker info --format '{{.Swarm.Cluster.ID}}'").strip()


@pytest.fixture
def workers(workshop: Workshop) -> Iterator[None]:
    """Both workers in the Swarm; afterwards, too, with the same secret."""
    wait_for(workshop, "worker-1", "worker-2")
    yield
    new_secret(workshop, secrets.token_urlsafe(32), "master", "worker-1", "worker-2")
    wait_for(workshop, "worker-1", "worker-2")


@pytest.mark.usefixtures("workers")
def test_a_new_secret_takes_everything_from_a_stolen_worker(workshop: Workshop) -> None:
    person = workshop.at_work("student1")
    person.save("before.txt", "saved")
    name = workshop.places()["student1"]
    (honest,) = {"worker-1", "worker-2"} - {name}
    thief = Worker(workshop, name)
    token = thief.ask("join", name, thief.node)["token"]
    mount = f"mount -t nfs4 -o vers=4.2,soft,timeo=50,retrans=1 {thief.settings['manager']}:/home /run/stolen"
    workshop.on(name, "mkdir --parents /run/stolen")
    # All that must be gone later works now.
    assert thief.reaches() == list(PORTS)
    assert thief.tries(mount) == 0
    workshop.on(name, "umount /run/stolen")
    # It always asks the server.
    ask_homes = "stat --file-system /var/lib/homes"
    assert thief.tries(ask_homes) == 0

    secret = secrets.token_urlsafe(32)
    new_secret(workshop, secret, "master")
    assert set(workshop.nodes()) == {"master"}
    assert thief.reaches() == [JOIN]
    assert thief.ask("join", name, thief.node) == {"denied": "access denied"}
    assert thief.tries(ask_homes) != 0, "the mount of before still works"
    assert thief.tries(mount) != 0
    workshop.on(name, "docker swarm leave --force", timeout=300)
    assert thief.tries(f"docker swarm join --token {token} {thief.settings['manager']}:2377") != 0
    # Nor once the firewall is open to it: the token is of a Swarm that no longer exists.
    workshop.on("master", f"nft add element ip hubsmith_members members '{{ {thief.address} }}'")
    assert SWARM in thief.reaches()
    workshop.on(name, "docker swarm leave --force", timeout=300)
    assert thief.tries(f"docker swarm join --token {token} {thief.settings['manager']}:2377") != 0
    assert set(workshop.nodes()) == {"master"}

    before = swarm_of(workshop)
    new_secret(workshop, secret, honest)
    wait_for(workshop, honest)
    # The proof of the honest one has closed the firewall to everybody else.
    assert thief.reaches() == [JOIN]
    with workshop.machine("master") as master:
        workshop.wait("the hub", lambda: master.execute("hubsmith status").rc == 0, JOINED)
    person = workshop.at_work("student1")
    assert workshop.places()["student1"] == honest
    assert person.read("before.txt") == "saved"
    workshop.on("master", "hubsmith apply", timeout=900)
    assert swarm_of(workshop) == before
    assert workshop.answers(person)
    person.stop()


@pytest.mark.usefixtures("workers")
def test_a_new_secret_arrives_although_the_master_dies_in_between(workshop: Workshop) -> None:
    thief, secret = Worker(workshop, "worker-2"), secrets.token_urlsafe(32)
    write_secret(workshop, "master", secret)
    with workshop.machine("master") as master:
        master.execute("sync; timeout --signal=KILL 8 hubsmith apply", timeout=120)
        master.crash()
    with pytest.raises(subprocess.CalledProcessError) as waited:
        hubsmith("up", workshop.fleet.file, "--wait", "300")
    assert waited.value.returncode == 7, "the workers have the old secret"
    denied = {"denied": "access denied"}
    workshop.wait("the new secret", lambda: thief.ask("join", "worker-2", thief.node) == denied, JOINED)
    assert set(workshop.nodes()) == {"master"}
    assert thief.reaches() == [JOIN]
    new_secret(workshop, secret, "worker-1")
    wait_for(workshop, "worker-1")


@pytest.mark.usefixtures("workers")
def test_a_worker_with_the_secret_cannot_remove_another_one(workshop: Workshop) -> None:
    thief, other = Worker(workshop, "worker-1"), Worker(workshop, "worker-2")
    assert thief.ask("leave", "worker-2", other.node) == {}
    assert thief.ask("join", "worker-2", "")["token"]
    assert other.node in workshop.on("master", "docker node ls --quiet")
    assert workshop.nodes()["worker-2"] == "Ready"


def test_a_worker_whose_node_was_removed_joins_again(workshop: Workshop) -> None:
    wait_for(workshop, "worker-1", "worker-2")
    workshop.on("master", "docker node rm --force worker-1")
    wait_for(workshop, "worker-1", "worker-2")


def test_a_neighbour_without_the_secret_reaches_the_join_service_only(workshop: Workshop) -> None:
    """An address of the network that no machine has proved itself from."""
    worker = Worker(workshop, "worker-1")
    alone = worker.address.rpartition(".")[0] + ".200"
    link = workshop.on("worker-1", f"ip -oneline -4 address show to {worker.address}").split()[1]
    workshop.on("worker-1", f"ip address add {alone}/24 dev {link}")
    try:
        assert worker.reaches(worker.address) == list(PORTS)
        assert worker.reaches(alone) == [JOIN]
    finally:
        workshop.on("worker-1", f"ip address del {alone}/24 dev {link}")
