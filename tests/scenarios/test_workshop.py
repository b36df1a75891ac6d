"""A workshop: a master, two workers, and people whose notebooks run in containers on the workers."""

from __future__ import annotations

import json

import pytest
from workshop import SPAWN, Workshop, hubsmith

from hubsmith.vm.waits import scaled

pytestmark = [pytest.mark.vm, pytest.mark.needs(memory_mb=8192)]

#: Tries to connect to each `address:port` of its arguments, and prints what came of it.
CONNECT = """
import socket, sys
for place in {places!r}:
    host, port = place.rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), 3).close()
        print(place, "reached")
    except OSError as error:
        print(place, type(error).__name__)
"""

#: Prints the effective and the possible capabilities, whether more can be had, and the engine's sockets.
RIGHTS = """
import os
rows = dict(line.split(":", 1) for line in open("/proc/self/status"))
for name in ("CapEff", "CapBnd", "NoNewPrivs"):
    print(rows[name].strip())
print([path for path in ("/var/run/docker.sock", "/run/docker.sock") if os.path.exists(path)])
"""
FILL = """
import errno, os
try:
    with open("fill", "wb", buffering=0) as file:
        for _ in range(64):
            file.write(bytes(2**20))
            os.fsync(file.fileno())
except OSError as error:
    print(errno.errorcode[error.errno])
"""


def test_up_brings_a_master_and_its_workers(workshop: Workshop) -> None:
    rows = [line.split("\t") for line in hubsmith("info", workshop.fleet.file, "--plain").splitlines()]
    assert [(row[0], row[1]) for row in rows] == [
        ("master", "Up-to-date"), ("worker-1", "Up-to-date"), ("worker-2", "Up-to-date"),
    ]  # fmt: skip
    workshop.wait("two workers", lambda: list(workshop.nodes().values()).count("Ready") == 3)
    items = json.loads(workshop.on("master", "hubsmith status --json"))["items"]
    assert next(one for one in items if one["name"] == "swarm")["why"] == "2 nodes for servers"


def test_servers_are_spread_over_the_workers_and_compute(workshop: Workshop) -> None:
    first, second = workshop.at_work("student1"), workshop.at_work("student2")
    assert sorted(workshop.places().values()) == ["worker-1", "worker-2"]
    for person in (first, second):
        with person.start_kernel(scaled(240)) as kernel:
            assert kernel.execute("5 * 4") == "20"
            assert kernel.execute("import os; os.getuid(), os.getgid()") == "(1000, 100)"
    first.save("diary.txt", "dear diary")


def test_a_notebook_reaches_the_hub_and_nothing_else_of_the_deployment(workshop: Workshop) -> None:
    addresses = workshop.fleet.record.read("addresses.json")
    other = workshop.person("student2").api("GET", "status")
    assert other["started"], "the second person's server runs"
    ports = (22, 111, 881, 2049, 2375, 2377, 2378, 4789, 7946, 9100)
    closed = [f"{address}:{port}" for address in addresses.values() for port in ports]
    closed += [
        "169.254.169.254:80",
        "172.17.0.1:22",
        *(f"172.{20 + n}.0.1:{port}" for n in (0, 1) for port in (22, 2375, 7946)),
    ]
    services = workshop.on(
        "master", "docker service inspect notebook-student2 --format '{{json .Endpoint.VirtualIPs}}'"
    )
    task = "docker ps --quiet --filter label=hubsmith.user=student2"
    inspect = f"docker inspect $({task}) --format '{{{{json .NetworkSettings.Networks}}}}'"
    networks = json.loads(workshop.on(workshop.places()["student2"], inspect))
    closed += [f"{one['Addr'].partition('/')[0]}:8888" for one in json.loads(services)]
    closed += [f"{network['IPAddress']}:8888" for network in networks.values()]
    with workshop.person("student1").start_kernel(scaled(240)) as kernel:
        told = kernel.execute(f"exec({CONNECT.format(places=['hub:881', *closed])!r})").splitlines()
        assert told[0] == "hub:881 reached"
        assert len(told) == 1 + len(closed)
        assert [line for line in told[1:] if line.endswith("reached")] == []
        assert kernel.execute(f"exec({RIGHTS!r})").splitlines() == ["0000000000000000", "0000000000000000", "1", "[]"]


def test_a_full_home_is_told_and_the_person_still_comes_in(workshop: Workshop) -> None:
    person = workshop.person("student2")
    with person.start_kernel(scaled(240)) as kernel:
        # Project quotas of XFS say that there is no space.
        assert kernel.execute(f"exec({FILL!r})") == "ENOSPC"
    usage = "cat /run/hubsmith/usage/student2.json"
    workshop.wait("the master to see it", lambda: json.loads(workshop.on("master", usage))["used"] > 31 * 2**20)
    person.stop()
    workshop.wait("the server to end", lambda: "student2" not in workshop.places())
    messages = workshop.person("student2").spawn(scaled(SPAWN))
    assert any("Your home is full" in message for message in messages)
    with person.start_kernel(scaled(240)) as kernel:
        assert kernel.execute("import os; os.remove('fill'); open('small', 'w').write('x')") == "1"


def test_the_home_is_there_on_another_worker(workshop: Workshop) -> None:
    person = workshop.person("student1")
    before = workshop.places()["student1"]
    person.stop()
    workshop.wait("the server to end", lambda: "student1" not in workshop.places())
    workshop.on("master", f"docker node update --availability drain {before}")
    try:
        person.spawn(scaled(SPAWN))
        assert workshop.places()["student1"] not in (before, "master")
        assert person.read("diary.txt") == "dear diary"
    finally:
        workshop.on("master", f"docker node update --availability active {before}")


def test_strangers_do_not_get_in(workshop: Workshop) -> None:
    settings = json.loads(workshop.on("worker-1", "cat /run/hubsmith/worker.json"))
    ask = (
        "import sys; sys.path[:0] = ['/usr/lib/hubsmith/python', '/usr/lib/hubsmith/cluster']; import protocol\n"
        "try:\n    print(sorted(protocol.join(*{who!r}, pinned={pin!r}, secret={secret!r}, name='stranger')))\n"
        "except protocol.NotLetIn as error:\n    print(error)"
    )
    who = (settings["manager"], 2378)

    def told(**other: str) -> str:
        text = ask.format(
            who=who, pin=other.get("pin", settings["pin"]), secret=other.get("secret", settings["secret"])
        )
        with workshop.machine("worker-1") as worker:
            return worker.succeed("python3 -I -", stdin=text).strip()

    assert told(secret="x" * 43) == "not let in"
    assert "another key" in told(pin=f"sha256:{'0' * 64}")
    assert "token" in told()


def test_prometheus_reads_hub_machines_and_homes(workshop: Workshop) -> None:
    address = workshop.fleet.record.read("addresses.json")
    node = workshop.on("worker-1", f"curl --silent --fail http://{address['master']}:9100/metrics")
    assert "node_memory_MemAvailable_bytes" in node
    assert 'hubsmith_home_limit_bytes{user="student2"} 33554432' in node
    hub = workshop.on("worker-1", f"curl --silent --fail --insecure https://{address['master']}/hub/metrics")
    assert "jupyterhub_running_servers" in hub
    with workshop.machine("master") as master:
        # From outside it comes by another address.
        assert master.get("/hub/metrics").status == 403
