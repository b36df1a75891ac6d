"""Deployments of several machines, with guests of one boot sector that say that they are ready."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny

from hubsmith.deploy.fleet import Fleet
from hubsmith.deploy.qemu import LAN, Replacing
from hubsmith.errors import HubsmithError, ImageFailed
from hubsmith.vm.state_dir import Adopted
from hubsmith.vm.switch import PLAN, PersistentLan

pytestmark = [
    pytest.mark.vm,
    pytest.mark.needs(memory_mb=4096),
    # The settings of hosts are checked against the modules of the tree.
    pytest.mark.reads("modules/*/settings.py", "modules/*/module.toml"),
]

HOST = 'memory_mb = 1024\ncpus = 1\ndisk_gb = 4\nfirmware = "bios"\n'
FILE = f"""
[deployment]
name = "trial"
[network]
cidr = "10.77.0.0/24"
[hosts.master]
image = "tiny"
{HOST}
[[hosts.master.settings.users]]
name = "alice"
[hosts.worker]
image = "tiny"
count = 2
needs = ["master"]
{HOST}
[[hosts.worker.settings.users]]
name = "alice"
[hosts.worker.settings.hub]
domain = "n${{address.master}}.example.org"
"""
Said = list[tuple[str, str]]


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    monkeypatch.setenv("HUBSMITH_STATE", str(tmp_path / "state"))
    tiny.tree(tmp_path, "tiny", "mute")
    tiny.make_output(tmp_path, "tiny", "hubsmith: ready: everything is ready")
    tiny.make_output(tmp_path, "mute", "hubsmith: starting: it never ends")
    (tmp_path / "hosts" / "trial.toml").write_text(FILE)
    fleet = Fleet(tmp_path, tmp_path / "hosts" / "trial.toml")
    yield fleet
    for folder in fleet.record.folder.glob("*"):
        if folder.is_dir() and (left := Adopted.find(folder)):
            os.kill(left.pid, signal.SIGKILL)
    if (fleet.record.folder / f"lan-{LAN}").exists():
        switch(fleet).end()


def again(fleet: Fleet) -> Fleet:
    """The same deployment, as the next command sees it."""
    return Fleet(fleet.root, fleet.file)


def switch(fleet: Fleet) -> PersistentLan:
    return PersistentLan(fleet.record.folder / f"lan-{LAN}")


def up(fleet: Fleet) -> Said:
    said: Said = []
    again(fleet).up(lambda name, line: said.append((name, line)), wait=60)
    return said


def states(fleet: Fleet) -> dict[str, str]:
    return {name: one.status()["status"] for name, one in again(fleet).machines().items()}


def plugged(fleet: Fleet) -> set[str]:
    plan = json.loads((switch(fleet).folder / PLAN).read_text())
    return {port["member"] for port in plan["ports"].values()}


UP = dict.fromkeys(("master", "worker-1", "worker-2"), "Up-to-date")


def test_up_in_order_and_again_and_down(fleet: Fleet) -> None:
    assert set(states(fleet).values()) == {"Missing"}
    said = up(fleet)
    assert said.index(("master", "made")) < min(n for n, (name, _) in enumerate(said) if name != "master")
    assert states(fleet) == UP
    assert plugged(fleet) == set(UP)
    addresses = [one.status()["ip"] for one in again(fleet).machines().values()]
    assert addresses == ["10.77.0.10", "10.77.0.11", "10.77.0.12"]
    assert {line for _, line in up(fleet) if line.startswith("is")} == {"is up already"}
    assert states(fleet) == UP
    said.clear()
    again(fleet).down(lambda name, line: said.append((name, line)))
    assert said[-1][0] == "master"
    assert set(states(fleet).values()) == {"Stopped"}
    assert not switch(fleet).running, "the switch goes on for nobody"


def test_an_obsolete_machine_is_seen_stopped_and_deleted(fleet: Fleet) -> None:
    up(fleet)
    fleet.file.write_text(FILE.replace("count = 2", "count = 1"))
    pid = int(again(fleet).obsolete()["worker-2"].obsolete()["id"])
    assert not any(name == "worker-2" for name, _ in up(fleet)), "`up` replaces and stops nothing"
    assert Path(f"/proc/{pid}/exe").exists()
    said: Said = []
    again(fleet).up(
        lambda name, line: said.append((name, line)), wait=60, replacing=Replacing.KEEPING_HOMES, only=["worker-2"]
    )
    assert ("worker-2", "obsolete; deleted") in said
    assert {name for name, _ in said} == {"worker-2"}
    assert not Path(f"/proc/{pid}/exe").exists()
    assert not again(fleet).obsolete()
    assert plugged(fleet) == {"master", "worker-1"}


def test_down_stops_what_the_file_does_not_name_any_more(fleet: Fleet) -> None:
    up(fleet)
    pids = [int(one.status()["id"]) for one in again(fleet).machines().values()]
    fleet.file.write_text(FILE.replace("worker", "helper").replace("master", "teacher"))
    assert set(again(fleet).obsolete()) == set(UP)
    again(fleet).down(lambda name, line: None, orderly=False, delete=True)
    assert not any(Path(f"/proc/{pid}/exe").exists() for pid in pids)
    assert not again(fleet).record.machines()


def test_a_machine_that_died_and_a_switch_that_died_come_back(fleet: Fleet) -> None:
    up(fleet)
    worker = again(fleet).machines()["worker-1"]
    others = {name: one.status()["id"] for name, one in again(fleet).machines().items() if name != "worker-1"}
    os.kill(int(worker.status()["id"]), signal.SIGKILL)
    subprocess.run(["pkill", "-9", "-f", f"hubsmith.vm.switch {switch(fleet).folder}"], check=True)
    while switch(fleet).running or worker.status()["status"] != "Stopped":
        time.sleep(0.05)
    assert ("worker-1", "started") in up(fleet)
    assert states(fleet) == UP
    assert switch(fleet).running
    assert others.items() <= {name: one.status()["id"] for name, one in again(fleet).machines().items()}.items()


def test_scale_up_and_down(fleet: Fleet) -> None:
    up(fleet)
    fleet.scale("worker", 3, lambda name, line: None)
    assert {name for name, line in up(fleet) if line == "made"} == {"worker-3"}
    assert plugged(fleet) == {*UP, "worker-3"}
    said: Said = []
    again(fleet).scale("worker", 1, lambda name, line: said.append((name, line)))
    assert sorted(name for name, line in said if line == "obsolete; deleted") == ["worker-2", "worker-3"]
    assert states(fleet) == {"master": "Up-to-date", "worker-1": "Up-to-date"}
    assert plugged(fleet) == {"master", "worker-1"}
    assert sorted(path.name for path in fleet.record.folder.iterdir() if path.name.startswith("worker")) == ["worker-1"]
    with pytest.raises(HubsmithError, match="it is one machine"):
        again(fleet).scale("master", 2, lambda name, line: None)
    with pytest.raises(HubsmithError, match="no host 'workr'; did you mean 'worker'"):
        again(fleet).scale("workr", 2, lambda name, line: None)


def test_who_needs_a_machine_that_does_not_come_up_is_not_started(fleet: Fleet) -> None:
    fleet.file.write_text(FILE.replace('[hosts.master]\nimage = "tiny"', '[hosts.master]\nimage = "mute"'))
    said: Said = []
    with pytest.raises(ImageFailed, match=r"(?s)waited 3 s for master to be ready.*status: starting: it never ends"):
        again(fleet).up(lambda name, line: said.append((name, line)), wait=3)
    assert {name for name, _ in said} == {"master"}
    assert states(fleet) == {"master": "Up-to-date", "worker-1": "Missing", "worker-2": "Missing"}


def test_wrong_settings_are_refused_before_anything_starts(fleet: Fleet) -> None:
    fleet.file.write_text(FILE.replace("${address.master}", "${address.mastr}"))
    with pytest.raises(HubsmithError, match="no machine 'mastr'; did you mean 'master'"):
        again(fleet).up(lambda name, line: None, wait=3)
    assert set(again(fleet).hosts_of()) == set(UP)
    assert not fleet.record.folder.exists(), "a password or a secret is there already"


def command(fleet: Fleet, *words: str) -> subprocess.Popen[str]:
    code = f"import sys; from hubsmith.cli import main; sys.exit(main({list(words)!r}))"
    return subprocess.Popen([sys.executable, "-c", code], cwd=fleet.root, stderr=subprocess.PIPE, text=True)


def test_an_interrupted_up_ends_soon_and_is_taken_up_again(fleet: Fleet) -> None:
    fleet.file.write_text(FILE.replace('image = "tiny"\ncount', 'image = "mute"\ncount'))
    first = command(fleet, "up", "hosts/trial.toml")
    assert first.stderr is not None
    assert any("starting: it never ends" in line for line in iter(first.stderr.readline, ""))
    first.send_signal(signal.SIGINT)
    _, rest = first.communicate(timeout=30)
    assert first.returncode == 130, rest
    assert "interrupted; run it again to go on" in rest
    assert set(states(fleet)) == set(UP)
    with contextlib.suppress(ImageFailed):
        again(fleet).up(lambda name, line: None, wait=1)
    assert states(fleet)["master"] == "Up-to-date"
