"""The `qemu` target with a guest of one boot sector: everything but the hub itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import tiny

from hubsmith.deploy.hosts import Host, Volume
from hubsmith.deploy.qemu import QemuMachine, Replacing
from hubsmith.deploy.record import MACHINE, Record
from hubsmith.errors import HubsmithError, ImageFailed
from hubsmith.vm.command import DISK, volume_file
from hubsmith.vm.state_dir import Adopted

pytestmark = [
    pytest.mark.vm,
    pytest.mark.needs(memory_mb=1024),
    # The settings of hosts are checked against the modules of the tree.
    pytest.mark.reads("modules/*/settings.py", "modules/*/module.toml"),
]

HOST = Host(image="tiny", memory_mb=1024, cpus=1, disk_gb=4, firmware="bios", settings={"users": [{"name": "alice"}]})


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HUBSMITH_STATE", str(tmp_path / "state"))
    tiny.tree(tmp_path, "tiny")
    build(tmp_path)
    return tmp_path


def build(root: Path, more: bytes = b"", modules: Sequence[str] = ()) -> None:
    tiny.make_output(root, "tiny", modules=modules, more=more)


@pytest.fixture
def host(root: Path) -> Iterator[QemuMachine]:
    record = Record("trial")
    yield QemuMachine(root, record, "hub", HOST)
    if left := Adopted.find(record.folder / "hub"):
        os.kill(left.pid, signal.SIGKILL)


def again(host: QemuMachine, definition: Host = HOST) -> QemuMachine:
    """The same machine, as the next command sees it."""
    return QemuMachine(host.root, Record("trial"), host.name, definition)


def bring_up(host: QemuMachine) -> list[str]:
    """The guest has no hub, so that every wait for one ends in vain."""
    said: list[str] = []
    with pytest.raises(ImageFailed, match=r"(?s)waited 3 s for hub to be ready.*tiny: ready.*the whole console: "):
        host.up(said.append, wait=3)
    return said


def test_from_up_to_down(host: QemuMachine) -> None:
    assert host.status()["status"] == "Missing"
    assert bring_up(host)[0].startswith("starting QEMU")
    status = again(host).status()
    assert status["status"] == "Up-to-date"
    pid = int(status["id"])
    assert os.getsid(pid) == pid, "it would end with this terminal"
    # Again: the same machine goes on.
    assert not any("starting QEMU" in line for line in bring_up(again(host)))
    assert again(host).status() == status
    assert again(host).down(timeout=30).startswith("stopped")
    assert again(host).status()["status"] == "Stopped"
    assert again(host).down() == "is not running"
    assert any("starting QEMU" in line for line in bring_up(again(host)))


def test_what_a_machine_wrote_survives_down_and_up(host: QemuMachine) -> None:
    bring_up(host)
    with again(host).machine() as machine:
        machine.send_console("ccw")
        machine.wait_for_console("tiny: 2\ntiny: 2\n", 30)
    again(host).down(timeout=30)
    bring_up(again(host))
    with again(host).machine() as machine:
        machine.send_console("l")
        machine.wait_for_console("tiny: 2", 30)


@pytest.mark.parametrize(
    ("change", "why"),
    [({"cpus": 2}, "other hardware"), ({"settings": {"users": [{"name": "bob"}]}}, "other settings")],
)
def test_a_changed_definition_is_not_applied_in_silence(host: QemuMachine, change: dict[str, object], why: str) -> None:
    bring_up(host)
    changed = again(host, Host.model_validate({**HOST.model_dump(), **change}))
    assert changed.status()["status"] == "Outdated"
    with pytest.raises(HubsmithError, match=f"it exists with {why}") as caught:
        changed.up(lambda line: None, wait=3)
    assert "hubsmith deploy FILE" in str(caught.value.hint)


WITH_VOLUME = HOST.model_copy(update={"volumes": (Volume(name="data", size_gb=1),)})
LARGER = WITH_VOLUME.model_copy(update={"cpus": 2})


def replace(host: QemuMachine, replacing: Replacing = Replacing.KEEPING_HOMES) -> list[str]:
    said: list[str] = []
    with pytest.raises(ImageFailed, match="waited 3 s for hub to be ready"):
        host.up(said.append, wait=3, replacing=replacing)
    return said


@dataclass
class Disks:
    """The disks of a machine as they were: links to them, so that no new file gets the number of an old one."""

    host: QemuMachine

    def __post_init__(self) -> None:
        for name in (DISK, volume_file("data")):
            (self.host.root / name).unlink(missing_ok=True)
            os.link(self.host.folder / name, self.host.root / name)

    def is_old(self, name: str) -> bool:
        """Whether the machine still has the same disk."""
        return (self.host.folder / name).samefile(self.host.root / name)


def test_a_replaced_machine_has_a_new_disk_and_its_old_volumes(host: QemuMachine) -> None:
    bring_up(again(host, WITH_VOLUME))
    disks = Disks(host)
    old = again(host).known["wanted"]["sha256"]
    assert not any("replaced" in line for line in replace(again(host, WITH_VOLUME)))
    assert disks.is_old(DISK)
    build(host.root, more=b"\1" * 512)
    said = replace(again(host, LARGER))
    assert said[0] == "to be replaced (other hardware, another image)"
    assert said[1].startswith("stopped")
    assert (disks.is_old(volume_file("data")), disks.is_old(DISK)) == (True, False)
    assert again(host, LARGER).status()["status"] == "Up-to-date"
    assert again(host).known["wanted"]["sha256"] != old


def refused(host: QemuMachine) -> None:
    with pytest.raises(HubsmithError, match="its homes are on its system disk") as caught:
        host.up(lambda line: None, wait=3, replacing=Replacing.KEEPING_HOMES)
    assert "--delete-homes" in str(caught.value.hint)
    assert again(host).status()["status"] == "Outdated"
    with again(host).running():
        pass


@pytest.mark.parametrize("settings", [{}, {"data": {"volume": "data"}}])
def test_homes_on_the_system_disk_are_not_deleted_in_silence(host: QemuMachine, settings: dict[str, object]) -> None:
    build(host.root, modules=["homes"])
    before = WITH_VOLUME.model_copy(update={"settings": {**HOST.settings, **settings}})
    bring_up(again(host, before))
    disks = Disks(host)
    after = before.model_copy(update={"cpus": 2})
    if not settings:
        refused(again(host, after))
        assert disks.is_old(DISK)
    replace(again(host, after), Replacing.KEEPING_HOMES if settings else Replacing.ALWAYS)
    assert (disks.is_old(volume_file("data")), disks.is_old(DISK)) == (True, False)


@pytest.mark.parametrize("recorded", [True, False])
def test_an_image_without_homes_does_not_take_the_homes_of_the_machine(host: QemuMachine, recorded: bool) -> None:
    build(host.root, modules=["homes"])
    bring_up(again(host, WITH_VOLUME))
    if not recorded:  # as an earlier version made it, here of an image that has no homes
        known = again(host).known
        del known["wanted"]["modules"]
        host.record.write(f"hub/{MACHINE}", known)
    disks = Disks(host)
    build(host.root, more=b"\1" * 512)
    refused(again(host, WITH_VOLUME))
    assert disks.is_old(DISK)
    # A homeless machine is replaced by one with homes, and not a second time.
    replace(again(host, WITH_VOLUME), Replacing.ALWAYS)
    build(host.root, more=b"\2" * 512, modules=["homes"])
    replace(again(host, WITH_VOLUME))
    disks = Disks(host)
    build(host.root, more=b"\3" * 512)
    refused(again(host, WITH_VOLUME))
    assert disks.is_old(DISK)


def test_a_new_build_leaves_the_running_machine_its_disk(host: QemuMachine) -> None:
    bring_up(host)
    build(host.root, more=b"\1" * 512)
    assert again(host).status()["status"] == "Outdated"
    with again(host).machine() as machine:
        machine.reset()
        machine.wait_for_console("(?s)tiny: ready.*tiny: ready", 30)
    with pytest.raises(HubsmithError, match="it exists with another image"):
        again(host).up(lambda line: None, wait=3)
    # Without any build there is nothing newer.
    (host.root / "out" / "tiny" / "SHA256SUMS").unlink()
    assert again(host).status()["status"] == "Up-to-date"


def test_an_image_that_is_not_built(host: QemuMachine) -> None:
    (host.root / "out" / "tiny" / "tiny.qcow2").unlink()
    with pytest.raises(HubsmithError, match="'tiny' is not built") as caught:
        host.up(lambda line: None, wait=3)
    assert caught.value.hint == "hubsmith build tiny"
    assert again(host).status()["status"] == "Missing"


def test_a_machine_that_ignores_the_power_button_is_killed(host: QemuMachine) -> None:
    bring_up(host)
    with again(host).machine() as machine:
        machine.reset()
        machine.qmp.execute("stop")  # a guest that stands still
    assert again(host).down(timeout=1) == "did not switch itself off within 1 s and was killed"
    assert again(host).status()["status"] == "Stopped"


def test_a_panic_is_told_at_once(host: QemuMachine) -> None:
    bring_up(host)
    with again(host).machine() as machine:
        machine.send_console("p")
        machine.wait_for_console("panic", 30)
    began = time.monotonic()
    with pytest.raises(ImageFailed, match=r"is dead.*Kernel panic"):
        again(host).up(lambda line: None, wait=300)
    assert time.monotonic() - began < 60
    # A panic of an earlier start does not count against the next one.
    again(host).down(timeout=30)
    bring_up(again(host))


def test_what_another_process_has_started_is_frozen_with_its_drives(host: QemuMachine) -> None:
    bring_up(host)
    with again(host).machine() as machine:
        blocks = machine.qmp.human("info block")
        frozen = machine.snapshot("later", resume=False)
    assert frozen.attachments.drives, "its metadata is on a drive"
    for drive in frozen.attachments.drives:
        assert drive in blocks
        assert (frozen.folder / drive).exists()


UP = "import sys; from hubsmith.cli import main; sys.exit(main(['up', 'hosts/trial.toml', '--wait', '600']))"


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("mark", ["", "starting QEMU"])
def test_an_interrupted_up_is_taken_up_again(host: QemuMachine, sign: signal.Signals, mark: str) -> None:
    settings = json.dumps(HOST.settings["users"][0]["name"])
    (host.root / "hosts" / "trial.toml").write_text(
        '[deployment]\nname = "trial"\n[hosts.hub]\nimage = "tiny"\nmemory_mb = 1024\ncpus = 1\ndisk_gb = 4\n'
        f'firmware = "bios"\n[[hosts.hub.settings.users]]\nname = {settings}\n'
    )
    first = subprocess.Popen([sys.executable, "-c", UP], cwd=host.root, stderr=subprocess.PIPE, text=True)
    assert first.stderr is not None
    if mark:
        while mark not in first.stderr.readline():
            pass
    else:
        time.sleep(0.7)  # somewhere in the middle
    first.send_signal(sign)
    first.wait(60)
    bring_up(again(host))
    machines = [path for path in Path("/proc").glob("[0-9]*/cwd") if _same(path, host.folder)]
    assert len(machines) == 1
    with host.record.locked():
        assert not list(host.record.folder.rglob("*.part"))


def _same(link: Path, folder: Path) -> bool:
    try:
        return link.samefile(folder)
    except OSError:
        return False


def test_nobody_else_reads_the_disks_and_secrets(host: QemuMachine) -> None:
    bring_up(host)
    assert host.record.folder.stat().st_mode & 0o777 == 0o700
    password = host.record.read("credentials.json")["hub"]["alice"]
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert password.encode() not in path.read_bytes()
        except OSError:
            continue
