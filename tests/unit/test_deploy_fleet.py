"""What a deployment knows of its machines without any of them running: counts, obsolete ones and what they hold."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny

from hubsmith.cli import main
from hubsmith.deploy.fleet import COUNTS, OWNER, Fleet
from hubsmith.deploy.hosts import Host
from hubsmith.deploy.qemu import QemuMachine, Replacing
from hubsmith.deploy.record import MACHINE, TRASH, Record
from hubsmith.errors import DefinitionError, HubsmithError
from hubsmith.vm.command import DISK, volume_file

FILE = '[deployment]\nname = "trial"\n[hosts.hub]\nimage = "none"\n[hosts.worker]\nimage = "none"\ncount = {count}\n'


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HUBSMITH_STATE", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    tiny.tree(tmp_path, "none")
    return tmp_path


def fleet(root: Path, count: int = 2, text: str = FILE) -> Fleet:
    """The deployment, as a command sees it."""
    file = root / "hosts" / "trial.toml"
    file.write_text(text.format(count=count))
    return Fleet(root, file)


def ignore(name: str, line: str) -> None:
    """Nobody listens."""


def put(name: str, *files: str, **wanted: Any) -> None:
    """A machine that was made earlier and does not run."""
    host = Host(image="none").model_dump(mode="json", exclude={"settings", "count", "needs"})
    record = Record("trial")
    record.write(f"{name}/{MACHINE}", {"wanted": {"host": host, "settings": "", "nic": None, "sha256": "0", **wanted}})
    for file in files:
        (record.folder / name / file).touch()


def test_the_latest_change_of_a_count_wins(root: Path) -> None:
    fleet(root).scale("worker", 4, ignore)
    assert list(fleet(root).hosts_of()) == ["hub", "worker-1", "worker-2", "worker-3", "worker-4"]
    assert fleet(root).notes() == ["worker: 4 machines, set by `hubsmith scale`; the file says count = 2"]
    changed = fleet(root, count=3)
    assert list(changed.hosts_of()) == ["hub", "worker-1", "worker-2", "worker-3"]
    said = "worker: the file wins with count = 3, which was changed after `hubsmith scale` set 4 machines"
    assert changed.notes() == [said]
    changed.settle_counts()
    assert changed.notes() == []
    # The file is not overruled again by what it has overruled.
    assert len(fleet(root, count=2).hosts_of()) == 3
    fleet(root, count=2).scale("worker", 2, ignore)
    assert fleet(root, count=2).notes() == [], "the two agree"


def test_a_count_of_an_earlier_version_holds_until_the_file_changes(root: Path) -> None:
    Record("trial").write(COUNTS, {"worker": 5, "gone": 7})
    assert len(fleet(root).hosts_of()) == 6
    fleet(root).settle_counts()
    assert Record("trial").read(COUNTS) == {"worker": {"file": 2, "machines": 5}}
    assert len(fleet(root, count=3).hosts_of()) == 4


@pytest.mark.parametrize(
    ("files", "wanted", "held"),
    [
        ((DISK,), {"modules": ["homes"]}, ["the homes on its system disk"]),
        ((DISK,), {}, ["the homes on its system disk"]),
        ((DISK,), {"modules": ["base"]}, []),
        ((DISK,), {"modules": ["homes"], "settings": 'data.volume = "auto"\n'}, []),
        ((), {"modules": ["homes"]}, []),
        ((volume_file("data"),), {"modules": ["base"]}, ["the volume 'data'"]),
        ((DISK, volume_file("b"), volume_file("a")), {}, [
            "the homes on its system disk", "the volume 'a'", "the volume 'b'",
        ]),
    ],
)  # fmt: skip
def test_what_a_machine_holds(root: Path, files: tuple[str, ...], wanted: dict[str, Any], held: list[str]) -> None:
    put("old", *files, **wanted)
    assert QemuMachine.recorded(root, Record("trial"), "old").holds() == held


def test_obsolete_machines_are_listed_until_they_are_deleted(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put("hub", DISK)
    put("worker-3", DISK, modules=[])
    put("teacher", DISK, volume_file("data"), modules=["homes"])
    file = str(fleet(root).file)

    def info() -> dict[str, str]:
        assert main(["info", file, "--json"]) == 0
        return {row["name"]: row["status"] for row in json.loads(capsys.readouterr().out)}

    assert info() == {
        "hub": "Stopped", "worker-1": "Missing", "worker-2": "Missing", "teacher": "Obsolete", "worker-3": "Obsolete",
    }  # fmt: skip
    assert main(["info", file]) == 0
    shown = capsys.readouterr()
    assert shown.out.count("Obsolete") == 2
    assert f"worker-3: obsolete; `hubsmith deploy {file}` deletes it" in shown.err
    hint = f"hubsmith down {file} teacher --delete"
    assert f"teacher: obsolete, holds the homes on its system disk and the volume 'data'; `{hint}` deletes it" in (
        shown.err
    )
    assert main(["down", file]) == 0
    assert hint in capsys.readouterr().err
    assert "worker-3" not in info()
    assert (Record("trial").folder / "teacher" / volume_file("data")).exists()
    assert main(hint.split()[1:]) == 0
    assert "teacher" not in info()
    assert info()["hub"] == "Stopped", "it was not named"
    assert main(["down", file, "--delete"]) == 0
    assert not Record("trial").folder.exists()


def test_down_does_not_know_every_name(root: Path) -> None:
    put("old", DISK)
    with pytest.raises(HubsmithError, match="no machine 'olld'; did you mean 'old'"):
        fleet(root).down(ignore, only=["olld"])


def test_scale_keeps_what_holds_data(root: Path) -> None:
    for number, modules in ((1, []), (2, []), (3, ["homes"])):
        put(f"worker-{number}", DISK, modules=modules)
    put("other-3", DISK, modules=[])
    said: list[tuple[str, str]] = []
    fleet(root, count=3).scale("worker", 1, lambda name, line: said.append((name, line)))
    assert ("worker-2", "obsolete; deleted") in said
    assert Record("trial").machines() == ["other-3", "worker-1", "worker-3"]
    assert list(fleet(root, count=3).obsolete()) == ["other-3", "worker-3"]
    fleet(root, count=3).scale("worker", 3, ignore)
    assert fleet(root, count=3).machines()["worker-3"].has_disk


def test_images_of_obsolete_machines_are_kept(root: Path) -> None:
    put("old", DISK, sha256="1")
    found = fleet(root)
    for name in ("0", "1"):
        (found.record.folder / f"{name}.qcow2").touch()
    found._forget_old_images()
    assert [path.name for path in found.record.folder.glob("*.qcow2")] == ["1.qcow2"]


def test_a_disk_without_a_record_is_left_alone(root: Path) -> None:
    put("hub", DISK)
    (Record("trial").folder / "hub" / MACHINE).unlink()
    with pytest.raises(HubsmithError, match="a disk without a record"):
        fleet(root).machines()["hub"].prepare(Replacing.ALWAYS)


def test_bad_settings_of_the_last_host_leave_nothing_behind(root: Path) -> None:
    (root / "out" / "none").mkdir(parents=True)
    (root / "out" / "none" / "none.qcow2").touch()
    (root / "out" / "none" / "SHA256SUMS").write_text("0  none.qcow2\n")
    users = '[[hosts.hub.settings.users]]\nname = "alice"\n[hosts.hub.settings.hub]\nannouncement = "${{secret.x}}"\n'
    bad = fleet(root, text=f"{FILE}[hosts.worker.settings.hub]\nadmin = 3\n{users}[network]\n")
    line = bad.file.read_text().splitlines().index("admin = 3") + 1
    what = f"{bad.file}:{line}: hosts.worker.settings.hub.admin: unknown key; did you mean `admins`?"
    with pytest.raises(DefinitionError, match=re.escape(what)):
        bad.up(ignore, wait=1)
    assert not bad.record.folder.exists()


def test_a_command_tidies_up_what_a_killed_one_has_left(root: Path) -> None:
    put("hub", DISK, "disk.part", f".{MACHINE}.x1y2")
    record = Record("trial")
    for folder in (record.folder / f"{TRASH}worker-1", record.folder.with_name(f"{TRASH}trial")):
        folder.mkdir()
        (folder / DISK).touch()
    with record.locked():
        pass
    assert sorted(path.name for path in record.folder.iterdir()) == [".lock", "hub"]
    assert sorted(path.name for path in (record.folder / "hub").iterdir()) == [DISK, MACHINE]
    assert [path.name for path in record.folder.parent.iterdir()] == ["trial"]


def test_what_is_half_deleted_is_not_found_any_more(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put("hub", DISK)
    put("old", DISK)
    record = Record("trial")

    def die(folder: Path, **_: object) -> None:
        if folder.exists():
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", die)
        with pytest.raises(KeyboardInterrupt):
            record.forget_machine("old")
        assert not (record.folder / "old").exists()
        assert record.machines() == ["hub"]
        with pytest.raises(KeyboardInterrupt):
            record.forget()
        assert not record.folder.exists()
    with record.locked():
        pass
    assert [path.name for path in record.folder.parent.iterdir()] == ["trial"]


def test_a_replacement_that_an_earlier_version_did_not_finish(root: Path) -> None:
    put("hub", DISK)
    record = Record("trial")
    record.write(f"hub/{MACHINE}", {**record.read(f"hub/{MACHINE}"), "renew": True})
    assert fleet(root).machines()["hub"].status()["status"] == "Missing", "its disk is that of the machine before it"


# --- two files with one name


VERBS = [
    ["up"], ["deploy"], ["scale", "worker=1"], ["down"], ["down", "--delete"], ["info"], ["check"], ["reboot", "hub"],
    ["ssh", "hub", "true"], ["ssh-for-each", "true"], ["scp", "x", "hub:x"],
]  # fmt: skip


def called(verb: list[str], file: Path) -> list[str]:
    """The command line of a verb, whose first argument is the hosts file."""
    return [verb[0], str(file), *verb[1:]]


@pytest.fixture
def copy(root: Path) -> Path:
    """A copy of the hosts file whose deployment has a machine."""
    with fleet(root).locked():
        put("hub", DISK, volume_file("data"), modules=[])
    file = root / "hosts" / "copy.toml"
    file.write_text(FILE.format(count=1).replace("hosts.hub", "hosts.other"))
    return file


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_machines_belong_to_one_hosts_file(copy: Path, verb: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert main(called(verb, copy)) == 1
    said = capfd.readouterr().err
    assert f"{copy}: deployment.name: the machines of the deployment 'trial' belong to " in said
    assert "hosts/trial.toml\n  hint: choose another `deployment.name` in this file; if it replaces" in said
    assert Record("trial").machines() == ["hub"]
    assert main(["info", str(copy.with_name("trial.toml"))]) == 0


def test_another_file_waits_for_the_lock_and_is_refused(root: Path) -> None:
    file = root / "hosts" / "copy.toml"
    file.write_text(FILE.format(count=1))
    late = Fleet(root, file)
    with fleet(root).locked():
        put("hub", DISK)
    with pytest.raises(HubsmithError, match="belong to"), late.locked():
        pass


def test_a_moved_hosts_file_keeps_its_machines(root: Path, copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, moved = copy.with_name("trial.toml"), root / "moved.toml"
    old.rename(moved)
    assert main(["info", str(moved), "--plain"]) == 0
    assert "hub\tStopped" in capsys.readouterr().out
    old.symlink_to(moved)
    assert main(["info", str(moved)]) == 0, "the old name leads to it"
    old.unlink()
    assert main(["down", str(moved)]) == 0
    # It is known by its new place.
    copy.rename(old)
    assert main(["info", str(old)]) == 1


def test_a_file_of_another_tree(root: Path, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the same one when it has the same place in its tree: trees are moved, and cloned again."""
    there = root / "clone"
    shutil.copytree(root, there, symlinks=True, ignore=shutil.ignore_patterns("clone", "state"))
    monkeypatch.chdir(there)
    same = there / "hosts" / "trial.toml"
    same.rename(root / "aside.toml")
    assert main(["info", "hosts/copy.toml"]) == 1, "the other tree has the file"
    (root / "aside.toml").rename(same)
    assert main(["down", "hosts/trial.toml"]) == 0
    shutil.rmtree(root / "hosts")
    assert main(["info", "hosts/copy.toml"]) == 1, "the machines belong to this tree now"


def test_a_name_is_free_when_no_machine_has_been_made_or_all_are_deleted(root: Path, copy: Path) -> None:
    assert main(["down", str(copy.with_name("trial.toml")), "--delete"]) == 0
    assert main(["info", str(copy)]) == 0
    with fleet(root).locked():
        pass
    assert main(["info", str(copy)]) == 0


def test_machines_of_an_earlier_version_belong_to_the_next_file_that_changes_them(root: Path, copy: Path) -> None:
    (Record("trial").folder / OWNER).unlink()
    assert main(["info", str(copy)]) == 0
    assert main(["down", str(root / "hosts" / "trial.toml")]) == 0
    assert main(["info", str(copy)]) == 1
