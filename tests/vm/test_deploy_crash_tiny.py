"""Commands that are killed before each of their changes, and disks that are full: the next command converges."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tiny
from deploy_driver import Lab

pytestmark = [
    pytest.mark.vm,
    pytest.mark.needs(memory_mb=2560),
    # The settings of hosts are checked against the modules of the tree.
    pytest.mark.reads("modules/*/settings.py", "modules/*/module.toml"),
]

FILE = "hosts/trial.toml"
HOST = """
[hosts.{name}]
image = "tiny"
memory_mb = 1024
cpus = {cpus}
disk_gb = 4
firmware = "bios"
{more}
[[hosts.{name}.settings.users]]
name = "alice"
"""
VOLUME = '[[hosts.hub.volumes]]\nname = "data"\nsize_gb = 1\n'
#: What no killed command leaves for good.
LEFT = (".part", "/.machine.json.", "/.deleted-", "/.key.")


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    tiny.tree(tmp_path, "tiny")
    tiny.make_output(tmp_path, "tiny", "hubsmith: ready: everything is ready", modules=[])
    lab = Lab(tmp_path)
    write(lab)
    yield lab
    lab.end()


def write(lab: Lab, cpus: int = 1, hub: str = "hub", workers: int | None = None) -> None:
    """Write the hosts file."""
    text = '[deployment]\nname = "trial"\n[network]\n' + HOST.format(name=hub, cpus=cpus, more=VOLUME)
    if workers is not None:
        text = '[deployment]\nname = "trial"\n' + HOST.format(name="worker", cpus=cpus, more=f"count = {workers}")
    (lab.state.parent / FILE).write_text(text)


def good(lab: Lab, *argv: str) -> str:
    """Run a command that must succeed."""
    code, text = lab.run(*argv)
    assert code == 0, text
    return text


def rows(lab: Lab) -> dict[str, str]:
    """Names and statuses of `info`."""
    return {row["name"]: row["status"] for row in json.loads(good(lab, "info", FILE, "--json"))}


def machines(lab: Lab) -> int:
    """How many QEMUs run."""
    return sum("qemu-system" in line for line in lab.ask("processes"))


def files(lab: Lab) -> list[str]:
    found: list[str] = lab.ask("files")
    return found


def end(lab: Lab) -> None:
    """Delete the deployment: nothing is left, neither files nor processes."""
    good(lab, "down", FILE, "--delete")
    assert files(lab) == ["deployments"]
    deadline = time.monotonic() + 5
    while left := lab.ask("processes"):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def walk(lab: Lab, stride: int, argv: list[str], before: Callable[[], None], after: Callable[[], None]) -> None:
    """Kill a command before every so many-th of its changes, until it ends by itself; run it again each time.

    Every other time the whole computer goes down with it.
    """
    died = 0
    for point in range(1, 1000, stride):
        before()
        code, text = lab.run(*argv, die=point, crash=point % 2 == 0)
        if code == 0:
            break
        assert code == -9, text
        died += 1
        good(lab, *argv)
        after()
        assert not [name for name in files(lab) if any(mark in f"/{name}" for mark in LEFT)], f"change {point}"
        end(lab)
    assert died > 2, "nothing was killed"
    end(lab)


STRIDES = pytest.mark.parametrize("stride", [4, pytest.param(1, marks=pytest.mark.slow)])


@STRIDES
def test_up_is_killed(lab: Lab, stride: int) -> None:
    def after() -> None:
        assert rows(lab) == {"hub": "Up-to-date"}
        assert machines(lab) == 1

    walk(lab, stride, ["up", FILE], lambda: None, after)


@STRIDES
def test_deploy_is_killed(lab: Lab, stride: int) -> None:
    good(lab, "up", FILE)
    good(lab, "down", FILE)
    folder = "deployments/trial/hub"
    lab.ask("shell", line=f"echo mine >> {folder}/volume-data.qcow2; cp --archive deployments saved")
    lab.ask("shell", line="mkdir kept && mv saved kept")

    def before() -> None:
        write(lab)
        assert lab.ask("shell", line="rm -r deployments; cp --archive kept/saved deployments") == [0, ""]
        write(lab, cpus=2)

    def after() -> None:
        assert rows(lab) == {"hub": "Up-to-date"}
        assert machines(lab) == 1
        assert lab.ask("shell", line=f"tail --bytes=5 {folder}/volume-data.qcow2") == [0, "mine\n"]

    def tidy() -> None:
        lab.ask("shell", line="rm -r kept")

    try:
        walk(lab, stride, ["deploy", FILE], before, after)
    finally:
        tidy()


@STRIDES
def test_a_renamed_host_and_a_killed_deploy(lab: Lab, stride: int) -> None:
    """The old machine holds nothing but a volume, which stays."""

    def before() -> None:
        write(lab)
        good(lab, "up", FILE)
        write(lab, hub="other")

    def after() -> None:
        assert rows(lab) == {"other": "Up-to-date", "hub": "Obsolete"}
        assert machines(lab) == 1
        assert "deployments/trial/hub/volume-data.qcow2" in files(lab)

    walk(lab, stride, ["deploy", FILE], before, after)


@STRIDES
@pytest.mark.parametrize(("first", "then"), [(1, 2), (2, 1)])
def test_scale_is_killed(lab: Lab, first: int, then: int, stride: int) -> None:
    write(lab, workers=first)

    def after() -> None:
        assert rows(lab) == dict.fromkeys((f"worker-{number + 1}" for number in range(then)), "Up-to-date")
        assert machines(lab) == then

    walk(lab, stride, ["scale", FILE, f"worker={then}"], lambda: void(good(lab, "up", FILE)), after)


@STRIDES
@pytest.mark.parametrize("more", [[], ["--delete"]])
def test_down_is_killed(lab: Lab, more: list[str], stride: int) -> None:
    def after() -> None:
        assert machines(lab) == 0
        assert rows(lab) == {"hub": "Missing" if more else "Stopped"}

    walk(lab, stride, ["down", FILE, *more], lambda: void(good(lab, "up", FILE)), after)


@STRIDES
def test_homes_that_may_be_deleted_are_not_deleted_by_a_later_command_that_may_not(lab: Lab, stride: int) -> None:
    """A `deploy --delete-homes` is killed, and then run without it."""
    tiny.make_output(lab.state.parent, "tiny", "hubsmith: ready: everything is ready", modules=["homes"])
    disk = "deployments/trial/hub/disk.qcow2"
    kept = replaced = 0
    for point in range(1, 1000, stride):
        write(lab)
        good(lab, "up", FILE)
        lab.ask("shell", line=f"ln {disk} old")
        write(lab, cpus=2)
        if lab.run("deploy", FILE, "--delete-homes", die=point)[0] == 0:
            break
        code, text = lab.run("deploy", FILE)
        if lab.ask("shell", line=f"test old -ef {disk}")[0] == 0:
            assert code == 1, text
            assert "its homes are on its system disk" in text
            kept += 1
        else:
            assert code == 0, text
            replaced += 1
        lab.ask("shell", line="rm old")
        end(lab)
    assert kept
    assert replaced


#: KiB that are free when the disk is as good as full. The tiny image alone takes a few hundred.
ROOMS = (0, 4, 16, 64, 256, 384, 512, 640, 768, 896, 1024)


def test_up_on_a_full_disk(lab: Lab) -> None:
    """Each time a bit more is free; what failed before is in nobody's way."""
    failed = []
    for room in ROOMS:
        lab.ask("fill", left=room * 1024)
        code, text = lab.run("up", FILE, "--wait", "20")
        lab.ask("free")
        if code == 0:
            break
        assert "Traceback" not in text
        assert "disk" in text or "No space" in text, text
        failed.append(text)
    assert len(failed) > 3
    good(lab, "up", FILE)
    assert rows(lab) == {"hub": "Up-to-date"}
    end(lab)


@pytest.mark.parametrize("room", ROOMS)
@pytest.mark.parametrize(
    "argv", [["deploy", FILE], ["scale", FILE, "worker=1"], ["down", FILE], ["down", FILE, "--delete"]]
)
def test_other_commands_on_a_full_disk(lab: Lab, argv: list[str], room: int) -> None:
    workers = 2 if argv[0] == "scale" else None
    write(lab, workers=workers)
    good(lab, "up", FILE)
    write(lab, workers=workers, cpus=2 if argv[0] == "deploy" else 1)
    lab.ask("fill", left=room * 1024)
    code, text = lab.run(*argv)
    assert "Traceback" not in text
    if argv[0] == "down":
        assert code == 0, "it is how space is made"
    lab.ask("free")
    good(lab, *argv)
    assert machines(lab) == (0 if argv[0] == "down" else 1)
    end(lab)


def test_a_guest_that_has_met_a_full_disk_goes_on(lab: Lab) -> None:
    good(lab, "up", FILE)
    lab.ask("fill", left=0)
    # It counts and says the number, then writes it to its disk and says it again.
    lab.ask("shell", line="printf cw > deployments/trial/hub/console.in")
    deadline = time.monotonic() + 10
    while (found := lab.run("up", FILE))[0] == 0:
        assert time.monotonic() < deadline, found
    assert "the machine has stopped: the disk of this computer is full" in found[1]
    lab.ask("free")
    assert "continuing; the disk of this computer was full" in good(lab, "up", FILE)
    while (said := lab.ask("read", file="deployments/trial/hub/console.log")).count("tiny: 1") < 2:
        assert time.monotonic() < deadline + 10, said
        time.sleep(0.05)
    end(lab)


def void(_: object) -> None:
    """Nothing."""
