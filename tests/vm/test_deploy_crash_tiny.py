"""Commands that are killed before each of their changes, and disks that are full: the next command converges.

`never-started` machines want more memory than there is, so that every command ends right before it starts QEMU: what
they leave on the disk is all that matters for most steps, and takes no time.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import tiny
from deploy_driver import Driver

pytestmark = [
    pytest.mark.vm,
    pytest.mark.needs(memory_mb=2560),
    # The settings of hosts are checked against the modules of the tree.
    pytest.mark.reads("modules/*/settings.py", "modules/*/module.toml"),
]

FILE = "hosts/trial.toml"
HEAD = '[deployment]\nname = "trial"\n'
HOST = """
[hosts.{name}]
image = "tiny"
memory_mb = {memory}
cpus = {cpus}
disk_gb = 4
firmware = "bios"
{more}
[[hosts.{name}.settings.users]]
name = "alice"
"""
VOLUME = '[[hosts.hub.volumes]]\nname = "data"\nsize_gb = 1\n'
HUB = "deployments/trial/hub"
READY = "hubsmith: ready: everything is ready"
#: What no killed command leaves for good.
LEFT = (".part", "/.machine.json.", "/.deployment.json.", "/.deleted-", "/.key.")


@dataclass
class Lab:
    """A deployment in a driver.

    :ivar boots: whether its machines start.
    :ivar stride: of :meth:`walk`.
    """

    root: Path
    driver: Driver
    boots: bool
    stride: int

    @property
    def up(self) -> str:
        """The status of a machine after `up`."""
        return "Up-to-date" if self.boots else "Stopped"

    def write(self, cpus: int = 1, hub: str = "hub", workers: int | None = None) -> None:
        """Write the hosts file."""
        memory = 1024 if self.boots else 99999999
        text = HEAD + "[network]\n" + HOST.format(name=hub, memory=memory, cpus=cpus, more=VOLUME.replace("hub", hub))
        if workers is not None:
            text = HEAD + HOST.format(name="worker", memory=memory, cpus=cpus, more=f"count = {workers}")
        (self.root / FILE).write_text(text)

    def good(self, *argv: str) -> str:
        """Run a command that must succeed, but for the start of machines that never start."""
        code, text = self.driver.run(*argv)
        starts = argv[0] in ("up", "deploy", "scale") and not self.boots
        assert code == (8 if starts else 0), text
        assert not starts or "MiB of memory" in text
        return text

    def rows(self) -> dict[str, str]:
        """Names and statuses of `info`."""
        return {row["name"]: row["status"] for row in json.loads(self.good("info", FILE, "--json"))}

    def files(self) -> list[str]:
        """What is in the state."""
        found: list[str] = self.driver.ask("files")
        return found

    def shell(self, line: str) -> int:
        """Run a line in the state's folder."""
        return int(self.driver.ask("shell", line=line)[0])

    def running(self, machines: int) -> bool:
        """Whether so many QEMUs run."""
        return sum("qemu-system" in line for line in self.driver.ask("processes")) == machines * self.boots

    def end(self) -> None:
        """Delete the deployment: nothing is left, neither files nor processes."""
        self.good("down", FILE, "--delete")
        assert self.files() == ["deployments"]
        deadline = time.monotonic() + 5
        while left := self.driver.ask("processes"):
            assert time.monotonic() < deadline, left
            time.sleep(0.05)

    def walk(
        self, argv: list[str], before: Callable[[], None], after: Callable[[], None], *, then: list[str] | None = None,
        stride: int | None = None,
    ) -> None:  # fmt: skip
        """Kill a command before every so many-th of its changes, until it ends by itself.

        Every other time the whole computer goes down with it. Each time the same command, or `then`, must converge.
        """
        died = 0
        for point in range(1, 1000, stride or self.stride):
            before()
            code, text = self.driver.run(*argv, die=point, crash=bool(died % 2))
            if code != -9:
                break
            died += 1
            self.good(*(then or argv))
            after()
            left = [name for name in self.files() if any(mark in f"/{name}" for mark in LEFT)]
            assert not left, f"killed before change {point}: {text}"
            self.end()
        assert died > 2, text
        self.end()


@pytest.fixture(
    params=[
        pytest.param((False, 5), id="never-started"),
        pytest.param((True, 8), id="running"),
        pytest.param((True, 1), id="running-every-change", marks=pytest.mark.slow),
    ]
)
def lab(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Lab]:
    tiny.tree(tmp_path, "tiny")
    tiny.make_output(tmp_path, "tiny", READY)
    lab = Lab(tmp_path, Driver(tmp_path), *request.param)
    lab.write()
    yield lab
    lab.driver.end()


only_running = pytest.mark.parametrize("lab", [(True, 1)], indirect=True, ids=["running"])


def test_up_is_killed(lab: Lab) -> None:
    def after() -> None:
        assert lab.rows() == {"hub": lab.up}
        assert lab.running(1)

    lab.walk(["up", FILE], lambda: None, after, stride=lab.stride if lab.boots else 1)


def test_deploy_is_killed(lab: Lab) -> None:
    def before() -> None:
        lab.write()
        lab.good("up", FILE)
        assert lab.shell(f"echo mine >> {HUB}/volume-data.qcow2") == 0
        # A start that was killed while it wrote the metadata leaves this.
        assert lab.shell(f"mkdir {HUB}/seed && touch {HUB}/seed/user_data") == 0
        lab.write(cpus=2)

    def after() -> None:
        assert lab.rows() == {"hub": lab.up}
        assert lab.running(1)
        assert json.loads(lab.driver.ask("read", file=f"{HUB}/machine.json"))["wanted"]["host"]["cpus"] == 2
        assert lab.shell(f'test "$(tail --bytes=5 {HUB}/volume-data.qcow2)" = mine') == 0

    lab.walk(["deploy", FILE], before, after)


def test_a_host_is_renamed_and_deploy_is_killed(lab: Lab) -> None:
    """The old machine is stopped. It holds a volume, so it stays."""

    def before() -> None:
        lab.write()
        lab.good("up", FILE)
        lab.write(hub="other")

    def after() -> None:
        assert lab.rows() == {"other": lab.up, "hub": "Obsolete"}
        assert lab.running(1)
        assert f"{HUB}/volume-data.qcow2" in lab.files()

    lab.walk(["deploy", FILE], before, after)


@pytest.mark.parametrize(("first", "then"), [(1, 2), (2, 1)])
def test_scale_is_killed(lab: Lab, first: int, then: int) -> None:
    lab.write(workers=first)

    def before() -> None:
        lab.good("up", FILE)

    def after() -> None:
        assert lab.rows() == dict.fromkeys((f"worker-{number + 1}" for number in range(then)), lab.up)
        assert lab.running(then)
        assert {name.split("/")[2] for name in lab.files() if "/worker-" in name} == set(lab.rows())

    lab.walk(["scale", FILE, f"worker={then}"], before, after)


@pytest.mark.parametrize("then", ["down --delete", "up"])
def test_down_is_killed(lab: Lab, then: str) -> None:
    def before() -> None:
        lab.good("up", FILE)

    def after() -> None:
        assert lab.rows() == {"hub": lab.up if then == "up" else "Missing"}
        assert lab.running(then == "up")

    verb, *option = then.split()
    lab.walk(["down", FILE, "--delete"], before, after, then=[verb, FILE, *option])


@only_running
@pytest.mark.parametrize("then", ["down", "up"])
def test_down_that_deletes_nothing_is_killed(lab: Lab, then: str) -> None:
    def before() -> None:
        lab.good("up", FILE)
        assert lab.shell(f"echo mine >> {HUB}/volume-data.qcow2") == 0

    def after() -> None:
        assert lab.rows() == {"hub": lab.up if then == "up" else "Stopped"}
        assert lab.running(then == "up")
        assert lab.shell(f'test "$(tail --bytes=5 {HUB}/volume-data.qcow2)" = mine') == 0

    lab.walk(["down", FILE], before, after, then=[then, FILE])


def test_homes_are_not_deleted_by_a_later_command_that_may_not(lab: Lab) -> None:
    """A `deploy --delete-homes` is killed, and then run without the option."""
    tiny.make_output(lab.root, "tiny", READY, modules=["homes"])
    outcomes = set()
    for point in range(1, 1000, 1 if not lab.boots else lab.stride):
        lab.write()
        lab.good("up", FILE)
        assert lab.shell(f"ln {HUB}/disk.qcow2 old") == 0
        lab.write(cpus=2)
        if lab.driver.run("deploy", FILE, "--delete-homes", die=point)[0] != -9:
            break
        if lab.shell(f"test old -ef {HUB}/disk.qcow2") == 0:
            code, text = lab.driver.run("deploy", FILE)
            assert code == 1, text
            assert "its homes are on its system disk" in text
            assert lab.shell(f"test old -ef {HUB}/disk.qcow2") == 0
            outcomes.add("kept")
        else:
            lab.good("deploy", FILE)
            outcomes.add("replaced")
        lab.shell("rm old")
        lab.end()
    assert outcomes == {"kept", "replaced"}


#: KiB that are free when the disk is as good as full. A deployment with one tiny machine takes some 1500.
ROOMS = (0, 4, 8, 32, 128, 256, 512, 768, 1024, 1280)


def test_up_on_a_full_disk(lab: Lab) -> None:
    """Each time a bit more is free; what failed before is in nobody's way."""
    failed = 0
    for room in ROOMS:
        lab.driver.ask("fill", left=room * 1024)
        code, text = lab.driver.run("up", FILE, "--wait", "20")
        lab.driver.ask("free")
        if code == 0 or "MiB of memory" in text:
            break
        assert code == 1, text
        assert "the disk is full" in text or "the disk of this computer is full" in text
        assert "hint: free some space" in text
        failed += 1
    assert failed > 3
    lab.good("up", FILE)
    assert lab.rows() == {"hub": lab.up}
    lab.end()


@pytest.mark.parametrize("verb", ["deploy", "scale", "down", "down --delete"])
def test_other_commands_on_a_full_disk(lab: Lab, verb: str) -> None:
    """No space at all: `down` needs none, and the others fail until there is some."""
    workers = 2 if verb == "scale" else None
    lab.write(workers=workers)
    lab.good("up", FILE)
    lab.write(workers=workers, cpus=2 if verb == "deploy" else 1)
    argv = [*verb.split()[:1], FILE, *verb.split()[1:], *(["worker=1"] if verb == "scale" else [])]
    lab.driver.ask("fill", left=0)
    if verb.startswith("down"):
        lab.good(*argv)
    else:
        code, text = lab.driver.run(*argv)
        assert code == 1, text
        assert "the disk is full" in text
    lab.driver.ask("free")
    lab.good(*argv)
    assert lab.running(0 if verb.startswith("down") else 1)
    lab.end()


@only_running
def test_a_guest_that_has_met_a_full_disk_goes_on(lab: Lab) -> None:
    lab.good("up", FILE)
    lab.driver.ask("fill", left=0)
    # It counts and says the number, then writes it to its disk and says it again.
    lab.shell(f"printf cw > {HUB}/console.in")
    deadline = time.monotonic() + 20
    # Until the guest has met it, the command may be the one that does.
    while "the machine has stopped: the disk of this computer is full" not in (found := lab.driver.run("up", FILE))[1]:
        assert found[0] == 0 or "the disk is full" in found[1], found
        assert time.monotonic() < deadline, found
    lab.driver.ask("free")
    assert "continuing; the disk of this computer was full" in lab.good("up", FILE)
    while (said := lab.driver.ask("read", file=f"{HUB}/console.log")).count("tiny: 1") < 2:
        assert time.monotonic() < deadline, said
        time.sleep(0.05)
    lab.end()
