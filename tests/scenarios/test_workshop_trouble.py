"""What happens to a workshop: machines die, networks part, the master is replaced; nobody's work is lost."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator

import pytest
import tomli_w
from hub_client import HubClient, NotServed
from workshop import SPAWN, Workshop, hubsmith

from hubsmith.vm.waits import scaled

pytestmark = [pytest.mark.vm, pytest.mark.slow, pytest.mark.needs(memory_mb=8192)]

#: Seconds until Swarm has noticed that a worker is gone and its servers answer elsewhere.
ELSEWHERE = 900
#: Writes numbers to a file, each flushed to the disk of the server before it is printed.
WRITE = """
import os, time
with open("numbers", "w") as file:
    for number in range({count}):
        file.write(f"{{number}}\\n")
        file.flush()
        os.fsync(file.fileno())
        with open("/tmp/acknowledged", "w") as told:
            told.write(str(number))
"""


@pytest.fixture
def person(workshop: Workshop) -> Iterator[HubClient]:
    """The first student at work; both workers take servers."""
    workshop.wait(
        "both workers", lambda: workshop.nodes().get("worker-1") == workshop.nodes().get("worker-2") == "Ready"
    )
    person = workshop.at_work("student1")
    yield person
    person = workshop.person("student1")
    person.stop()
    workshop.wait("the server to end", lambda: "student1" not in workshop.places())


def test_a_lost_worker_s_servers_come_back_on_another_with_their_homes(workshop: Workshop, person: HubClient) -> None:
    person.save("before.txt", "saved")
    lost = workshop.places()["student1"]
    with workshop.machine(lost) as worker:
        worker.crash()
    workshop.wait("the server elsewhere", lambda: workshop.places().get("student1") not in (None, lost), ELSEWHERE)
    workshop.wait("it to answer", lambda: workshop.answers(person), ELSEWHERE)
    assert person.read("before.txt") == "saved"
    hubsmith("up", workshop.fleet.file)
    workshop.wait("the worker's return", lambda: workshop.nodes()[lost] == "Ready", ELSEWHERE)


def test_the_master_is_cut_off_and_returns(workshop: Workshop, person: HubClient) -> None:
    with person.start_kernel(scaled(240)) as kernel:
        assert kernel.execute("x = 42") == ""
        number = kernel.id
    with workshop.machine("master") as master:
        master.crash()
    hubsmith("up", workshop.fleet.file)
    back = workshop.person("student1")
    workshop.wait("the server to answer", lambda: workshop.answers(back), ELSEWHERE)
    kept = next(one for one in back.kernels() if one.id == number)
    with kept:
        assert kept.execute("x") == "42"
    back.save("after.txt", "saved")
    assert back.read("after.txt") == "saved"


def test_a_parted_worker_heals(workshop: Workshop, person: HubClient) -> None:
    away = workshop.places()["student1"]
    rest = {name for name in workshop.fleet.machines() if name != away}
    workshop.lan.partition({away}, rest)
    try:
        workshop.wait("the worker to be missed", lambda: workshop.nodes()[away] == "Down", ELSEWHERE)
        workshop.wait("the server elsewhere", lambda: workshop.places().get("student1") not in (None, away), ELSEWHERE)
        # Also when whoever looks at the homes waits for ever.
        with workshop.machine(away) as worker:
            assert "the manager does not answer" in worker.execute("hubsmith status").stdout
    finally:
        workshop.lan.partition()
    workshop.wait("the worker's return", lambda: workshop.nodes()[away] == "Ready", ELSEWHERE)
    # The server of the time before is ended on the worker that was away: nobody writes twice.
    task = "docker ps --quiet --filter label=hubsmith.user=student1"
    workshop.wait(
        "one server", lambda: workshop.on(away, task) == "" or workshop.places()["student1"] == away, ELSEWHERE
    )


def test_nothing_acknowledged_is_lost_when_the_homes_restart(workshop: Workshop, person: HubClient) -> None:
    count = 400
    with person.start_kernel(scaled(240)) as kernel:
        kernel.send(f"exec({WRITE.format(count=count)!r})")
        home = "/home/student1/numbers"
        with workshop.machine("master") as master:
            master.wait_until("the first numbers", lambda: master.execute(f"test -s {home}").rc == 0, 120)
            master.succeed("systemctl stop nfs-server", timeout=120)
            written = int(master.succeed(f"wc -l < {home}"))
            master.succeed("systemctl start nfs-server", timeout=120)
        workshop.wait(
            "the last number", lambda: person.read("numbers").splitlines()[-1:] == [str(count - 1)], ELSEWHERE
        )
        assert 0 < written < count, "the server was away in the middle"
        assert person.read("numbers").split() == [str(number) for number in range(count)]
        assert kernel.execute("open('/tmp/acknowledged').read()") == f"'{count - 1}'"


def test_more_workers_and_fewer(workshop: Workshop, person: HubClient) -> None:
    file = workshop.fleet.file
    hubsmith("scale", file, "worker=3")
    workshop.wait("the third", lambda: workshop.nodes().get("worker-3") == "Ready", ELSEWHERE)
    hubsmith("scale", file, "worker=1")
    workshop.wait("the others to be missed", lambda: workshop.nodes().get("worker-3") != "Ready", ELSEWHERE)
    workshop.wait("the server on the first", lambda: workshop.places().get("student1") == "worker-1", ELSEWHERE)
    workshop.wait("it to answer", lambda: workshop.answers(person), ELSEWHERE)
    hubsmith("scale", file, "worker=2")
    workshop.wait("the second", lambda: workshop.nodes().get("worker-2") == "Ready", ELSEWHERE)


def test_a_new_master_goes_on_with_the_volume(workshop: Workshop, person: HubClient) -> None:
    person.save("kept.txt", "saved")
    show = "openssl s_client -connect localhost:443 < /dev/null 2>&1 | openssl x509 -noout -serial"
    token = person.request("POST", "/hub/api/users/student1/tokens", json={"note": "kept"}).json()["token"]
    certificate, disk = workshop.on("master", show), workshop.on("master", "cat /etc/machine-id")
    file = workshop.fleet.file
    content = tomllib.loads(file.read_text())
    content["hosts"]["master"]["settings"]["hub"]["announcement"] = "A new master"
    file.write_text(tomli_w.dumps(content))
    hubsmith("deploy", file)
    assert workshop.on("master", "cat /etc/machine-id") != disk
    assert workshop.on("master", show) == certificate
    workshop.wait("both workers", lambda: list(workshop.nodes().values()).count("Ready") == 3, ELSEWHERE)
    back = workshop.person("student1")
    assert "A new master" in back.request("GET", "/hub/home").text
    api = back.request("GET", "/hub/api/user", headers={"Authorization": f"token {token}"})
    assert api.json()["name"] == "student1"
    workshop.wait("the server to answer", lambda: workshop.answers(back), ELSEWHERE)
    assert back.read("kept.txt") == "saved"


def test_a_wrong_clock_does_not_keep_a_worker_out(workshop: Workshop) -> None:
    with workshop.machine("worker-1") as worker:
        worker.succeed(
            "timedatectl set-ntp false; date --set '+3 hours'; systemctl restart hubsmith-swarm-worker docker",
            timeout=300,
        )
    workshop.wait("it to be ready", lambda: workshop.nodes()["worker-1"] == "Ready", ELSEWHERE)
    person = workshop.at_work("student1")
    person.stop()
    with workshop.machine("worker-1") as worker:
        worker.succeed("date --set '-3 hours'; timedatectl set-ntp true")


def test_what_keeps_a_server_from_starting_is_said(workshop: Workshop) -> None:
    person = workshop.person("student2")
    person.stop()
    workshop.wait("no server to be there", lambda: "student2" not in workshop.places())
    workshop.on("master", "chmod 0 /home/student2")
    try:
        with pytest.raises(NotServed, match="ermission denied"):
            person.spawn(scaled(SPAWN))
    finally:
        workshop.on("master", "chmod 700 /home/student2")


def test_a_worker_whose_disk_is_full_says_so(workshop: Workshop) -> None:
    with workshop.machine("worker-1") as worker:
        worker.succeed(
            "fallocate --length $(($(df --output=avail --block-size=1 /var | tail -n 1) - 8388608)) /var/fill"
        )
        try:
            workshop.wait("the status to say so", lambda: "full" in worker.execute("hubsmith status").stdout)
            try:
                workshop.at_work("student1").stop()
            except NotServed as error:
                assert "no space" in str(error)
        finally:
            worker.succeed("rm /var/fill")
    status = json.loads(workshop.on("master", "hubsmith status --json"))
    assert status["state"] in ("ready", "degraded")
