"""The apply engine on a machine of files: real templates, real hooks, no systemd."""

from __future__ import annotations

import fcntl
import grp
import json
import os
import pwd
import shutil
import stat
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import hubsmith
from hubsmith import code
from hubsmith.build.stages.root import guest_files
from hubsmith.definition import define
from hubsmith.errors import HubsmithError
from hubsmith.guest import files, outcome, secrets
from hubsmith.guest.apply import apply
from hubsmith.guest.layout import Layout
from hubsmith.guest.main import main
from hubsmith.run import run

ROOT = Path(__file__).parents[2]
SMALLEST = Path(__file__).parent / "settings_good" / "smallest.toml"
OWNER, GROUP = pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(os.getegid()).gr_name


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A machine with the settings of a master, and nothing else of its modules."""
    layout = Layout(tmp_path / "root")
    layout.settings.parent.mkdir(parents=True)
    shutil.copy(SMALLEST, layout.settings)
    for folder in (layout.modules, layout.preparation, layout.hooks, layout.checks):
        folder.mkdir(parents=True)
    add_settings(layout, "master")
    return layout


def add_settings(layout: Layout, image: str) -> None:
    """The `settings.py` of an image's modules, in place of those that are there."""
    for there in layout.modules.glob("*/settings.py"):
        there.unlink()
    for topic in define(ROOT, image).modules:
        if (file := ROOT / "modules" / topic / "settings.py").exists():
            (layout.modules / topic).mkdir(exist_ok=True)
            (layout.modules / topic / "settings.py").symlink_to(file)


def add_module(layout: Layout, topic: str, templates: dict[str, tuple[str, str]], more: str = "") -> None:
    """A module whose templates are ``{target: (text, other keys)}``."""
    folder = layout.modules / topic
    (folder / "templates").mkdir(parents=True, exist_ok=True)
    text = more
    for number, (target, (body, keys)) in enumerate(templates.items()):
        (folder / "templates" / f"{number}.j2").write_text(body)
        text += f'\n[[templates]]\nsource = "{number}.j2"\ntarget = "{target}"\n'
        text += f'owner = "{OWNER}"\ngroup = "{GROUP}"\n{keys}\n'
    (folder / "module.toml").write_text(text)


def add_hook(layout: Layout, name: str, body: str, folder: Path | None = None) -> None:
    hook = (folder or layout.hooks) / name
    hook.write_text(f"#!/bin/sh\n{body}\n")
    hook.chmod(0o755)


def test_good_settings(layout: Layout) -> None:
    body = "{% for user in settings.users %}\nuser {{ user.name }}\n{% endfor %}\ntoken {{ secrets.proxy_token }}\n"
    add_module(layout, "hub", {"/run/hub.conf": (body, 'mode = "0600"')}, '[settings]\nreads = ["users"]')
    result = apply(layout)
    assert (result.state, result.changed) == ("good", ("/run/hub.conf",))
    target = layout.at("/run/hub.conf")
    made = json.loads((layout.kept / "secrets.json").read_text())
    assert target.read_text() == f"user alice\ntoken {made['proxy_token']}\n"
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert stat.S_IMODE(layout.outcome.stat().st_mode) == 0o600
    assert outcome.read(layout.outcome) == result


def test_a_second_run_changes_nothing(layout: Layout) -> None:
    add_module(layout, "hub", {"/run/hub.conf": ("{{ machine.hostname }}", "")})
    apply(layout)
    before = {path: path.stat().st_mtime_ns for path in layout.root.rglob("*") if path.is_file()}
    assert apply(layout).changed == ()
    after = {path: path.stat().st_mtime_ns for path in layout.root.rglob("*") if path.is_file()}
    assert {path for path in before if before[path] != after[path]} == {layout.outcome, layout.run / "apply.lock"}


def test_a_changed_mode_is_put_right(layout: Layout) -> None:
    add_module(layout, "hub", {"/run/hub.conf": ("x", 'mode = "0640"')})
    apply(layout)
    layout.at("/run/hub.conf").chmod(0o666)
    assert apply(layout).changed == ("/run/hub.conf",)
    assert stat.S_IMODE(layout.at("/run/hub.conf").stat().st_mode) == 0o640


def test_each_state_has_its_files(layout: Layout) -> None:
    add_module(
        layout,
        "web",
        {
            "/run/good": ("good", ""),
            "/run/bad": ("{{ reasons | join(';') }}", 'when = "bad"'),
            "/run/always": ("{{ state }}{{ ' no settings' if settings is none }}", 'when = "always"'),
        },
    )
    apply(layout)
    assert [layout.at(name).exists() for name in ("/run/good", "/run/bad", "/run/always")] == [True, False, True]
    layout.settings.unlink()
    assert apply(layout).changed == ("/run/always", "/run/bad", "/run/good")
    assert not layout.at("/run/good").exists()
    assert layout.at("/run/bad").read_text().startswith("the file does not exist")
    assert layout.at("/run/always").read_text() == "bad no settings"
    shutil.copy(SMALLEST, layout.settings)
    apply(layout)
    assert [layout.at(name).exists() for name in ("/run/good", "/run/bad", "/run/always")] == [True, False, True]


def test_one_target_in_both_states(layout: Layout) -> None:
    add_module(layout, "a", {"/run/site": ("good", "")})
    add_module(layout, "b", {"/run/site": ("bad", 'when = "bad"')})
    apply(layout)
    assert layout.at("/run/site").read_text() == "good"
    layout.settings.write_text("")
    apply(layout)
    assert layout.at("/run/site").read_text() == "bad"


def test_a_module_sees_only_the_tables_that_it_reads(layout: Layout) -> None:
    add_module(layout, "nosy", {"/run/x": ("{{ settings.users }}", "")}, '[settings]\nreads = ["tls"]')
    result = apply(layout)
    assert result.state == "refused"
    assert result.reasons[0].public == "the configuration of nosy cannot be made"
    assert "0.j2" in result.reasons[0].detail
    assert "users" in result.reasons[0].detail


def test_one_bad_template_and_nothing_is_written(layout: Layout) -> None:
    add_module(layout, "a", {"/run/a": ("a", "")})
    add_module(layout, "b", {"/run/b": ("line one\n{{ nothing.here }}", "")})
    assert apply(layout).state == "refused"
    assert not layout.at("/run/a").exists()


def test_hooks_run_in_order_and_get_their_settings_on_standard_input(layout: Layout) -> None:
    add_module(layout, "first", {}, '[settings]\nreads = ["homes"]')
    add_module(layout, "second", {}, '[settings]\nreads = ["users"]\n[[ports]]\nnumber = 443\naudience = "all"')
    log = layout.root / "log"
    add_hook(layout, "20-second", f"cat >> {log}; echo >> {log}")
    add_hook(layout, "10-first", f"cat >> {log}; echo >> {log}")
    assert apply(layout).state == "good"
    first, second = (json.loads(line) for line in log.read_text().splitlines())
    assert first["settings"] == {"homes": {"quota": 2 * 1024**3, "shared": True}}
    assert second["settings"]["users"][0]["name"] == "alice"
    assert first["secrets"] == json.loads((layout.kept / "secrets.json").read_text())
    assert first["ports"] == [{"topic": "second", "number": 443, "protocol": "tcp", "audience": "all"}]
    assert first["machine"]["cpus"] >= 1


def test_what_is_prepared_comes_before_secrets_and_files(layout: Layout) -> None:
    """What is kept may lie on a volume that a preparation mounts."""
    state = '[settings]\nreads = ["data"]\n[[state]]\npath = "/var/lib/x"\nkeep = true\n[[state]]\npath = "/var/lib/y"'
    add_module(layout, "first", {"/run/a": ("a", "")}, state)
    log, secrets_file = layout.root / "log", layout.kept / "secrets.json"
    before = f"test ! -e {secrets_file} && test ! -e {layout.at('/run/a')}"
    add_hook(layout, "10-first", f"{before} && cat > {log}", layout.preparation)
    assert apply(layout).state == "good"
    told = json.loads(log.read_text())
    assert (told["kept"], told["secrets"], told["settings"]) == (["/var/lib/x"], {}, {"data": {"volume": None}})
    assert secrets_file.exists()


def test_a_failing_preparation_makes_no_secrets(layout: Layout) -> None:
    """They would hide that the volume with the true ones is missing."""
    add_module(layout, "first", {})
    add_hook(layout, "10-first", "echo no volume >&2; exit 1", layout.preparation)
    result = apply(layout)
    assert (result.state, result.reasons[0].public) == ("refused", "the step `first` failed")
    assert not (layout.kept / "secrets.json").exists()


def test_a_failing_hook_refuses_and_leaves_only_the_files_of_that_state(layout: Layout) -> None:
    add_module(layout, "web", {"/run/good": ("x", ""), "/run/bad": ("{{ reasons[0] }}", 'when = "bad"')})
    marker = layout.root / "second-ran"
    add_hook(layout, "10-web", "echo working; echo 'alice has no home' >&2; exit 4")
    add_hook(layout, "20-web", f"touch {marker}")
    result = apply(layout)
    assert result.state == "refused"
    assert result.reasons[0].public == "the step `web` failed"
    assert result.reasons[0].detail.endswith("10-web: alice has no home")
    assert layout.at("/run/bad").read_text() == "the step `web` failed"
    assert not layout.at("/run/good").exists()
    assert not marker.exists()


def test_units_that_were_not_told_are_told_by_the_next_run(layout: Layout) -> None:
    keys = 'when = "always"\nreload = ["nftables.service"]\nrestart = ["jupyterhub.service"]'
    add_module(layout, "web", {"/run/always": ("x", keys)})
    add_hook(layout, "10-web", f"cp {layout.outcome} {layout.root}/seen")
    apply(layout)
    seen = json.loads((layout.root / "seen").read_text())
    assert seen["state"] == "applying"
    assert seen["pending"] == {"reload": ["nftables.service"], "restart": ["jupyterhub.service"]}
    shutil.copy(layout.root / "seen", layout.outcome)  # as a run leaves it that was ended in its hooks
    apply(layout)
    assert json.loads((layout.root / "seen").read_text())["pending"] == seen["pending"]
    apply(layout)
    assert json.loads((layout.root / "seen").read_text())["pending"] == {"reload": [], "restart": []}


@pytest.mark.parametrize("name", ["10-nobody", "10"])
def test_a_hook_of_no_module_is_refused(layout: Layout, name: str) -> None:
    add_hook(layout, name, "exit 0")
    assert "no module has the name" in apply(layout).reasons[0].detail


def test_a_hook_that_cannot_be_run_is_refused(layout: Layout) -> None:
    add_module(layout, "web", {})
    (layout.hooks / "10-web").write_text("#!/bin/sh\n")
    assert "not executable" in apply(layout).reasons[0].detail


@pytest.mark.parametrize("file", sorted((SMALLEST.parents[1] / "settings_bad").glob("*.toml")), ids=lambda f: f.stem)
def test_bad_settings_are_refused_with_the_same_words_as_on_the_laptop(layout: Layout, file: Path) -> None:
    shutil.copy(file, layout.settings)
    if file.stem.startswith("worker_"):
        add_settings(layout, "swarm-worker")
    add_module(layout, "web", {"/run/page": ("{{ reasons | tojson }}", 'when = "bad"')})
    add_hook(layout, "10-web", f"touch {layout.root}/hook-ran")
    result = apply(layout)
    assert result.state == "refused"
    assert [f"  {reason.detail}" for reason in result.reasons] == _problems(file, str(layout.settings))
    assert not (layout.root / "hook-ran").exists()
    assert "hunter2" not in layout.at("/run/page").read_text()


def _problems(file: Path, name: str) -> list[str]:
    """The committed text of a bad file, one entry for each problem."""
    entries: list[str] = []
    for line in file.with_suffix(".txt").read_text().splitlines()[1:]:
        if line.startswith("  settings.toml"):
            entries.append(line.replace("settings.toml", name, 1))
        else:
            entries[-1] += f"\n{line}"
    return entries


def test_secrets_are_made_once_and_are_for_root_only(tmp_path: Path) -> None:
    path = tmp_path / "state" / "secrets.json"
    first = secrets.load_or_make(path)
    assert all(len(value) == 64 for value in first.values())
    assert len(set(first.values())) == len(secrets.NAMES)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    path.chmod(0o644)
    assert secrets.load_or_make(path) == first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_new_secret_is_added_and_the_old_ones_stay(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    path.write_text('{"cookie_secret": "aa"}')
    made = secrets.load_or_make(path)
    assert made["cookie_secret"] == "aa"
    assert set(made) == set(secrets.NAMES)
    assert json.loads(path.read_text()) == made


@pytest.mark.parametrize("text", ["", "{", "[]", '{"cookie_secret": 5}', '{"cookie_secret": ""}'])
def test_damaged_secrets_are_refused_and_kept(layout: Layout, text: str) -> None:
    layout.kept.mkdir(parents=True)
    (layout.kept / "secrets.json").write_text(text)
    result = apply(layout)
    assert result.reasons[0].public == "the machine could not be set up"
    assert "secrets are damaged" in result.reasons[0].detail
    assert (layout.kept / "secrets.json").read_text() == text


def test_a_second_apply_waits_for_the_first(layout: Layout) -> None:
    layout.run.mkdir(parents=True)
    done: list[Any] = []
    with (layout.run / "apply.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        thread = threading.Thread(target=lambda: done.append(apply(layout).state))
        thread.start()
        time.sleep(0.5)
        assert done == []
        assert not layout.outcome.exists()
    thread.join(timeout=10)
    assert done == ["good"]


def test_waiting_for_the_lock_has_an_end(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(HubsmithError, match="another run holds it"), files.locked(tmp_path / "lock", timeout=0.3):
            pass


def test_two_cannot_hold_the_lock(tmp_path: Path) -> None:
    with (
        files.locked(tmp_path / "lock"),
        pytest.raises(HubsmithError, match="another run holds it"),
        files.locked(tmp_path / "lock", timeout=0.3),
    ):
        pass


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "file"
    files.write(path, "old")
    with pytest.raises(OverflowError):
        files.write(path, "new", uid=2**40)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_in_the_place_of_a_file_is_replaced_not_followed(tmp_path: Path) -> None:
    for text in ("another text", "the same text"):
        (tmp_path / "victim").write_text(text)
        (tmp_path / "file").unlink(missing_ok=True)
        (tmp_path / "file").symlink_to(tmp_path / "victim")
        files.write(tmp_path / "file", "the same text")
        assert (tmp_path / "victim").read_text() == text
        assert not (tmp_path / "file").is_symlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root applies settings")
def test_the_command(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--root", str(layout.root), "apply"]) == 0
    assert "settings applied: 0 files changed" in capsys.readouterr().out
    layout.settings.write_text('[hub]\ndomian = "x"\n')
    assert main(["--root", str(layout.root), "apply", "--boot"]) == 3
    told = capsys.readouterr().err.splitlines()
    assert told[0].startswith(f"<3>refused: {layout.settings}: users: no one can log in")
    assert main(["--root", str(layout.root), "settings", "check", str(layout.settings), "--json"]) == 3
    assert len(json.loads(capsys.readouterr().out)["problems"]) == 2


@pytest.fixture
def guest(tmp_path: Path) -> Path:
    """A folder with what an image gets of the package."""
    source, folder = Path(hubsmith.__file__).parents[1], tmp_path / "guest"
    for path in code.guest_files(source):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source / path, folder / path)
    return folder


def test_the_parts_that_an_image_gets_import_no_other(guest: Path) -> None:
    paths = [str(path.relative_to(guest)) for path in sorted(guest.rglob("*.py"))]
    modules = [path.removesuffix(".py").replace("/", ".") for path in paths if not path.endswith("/__init__.py")]
    assert "hubsmith.guest.status.service" in modules
    run([sys.executable, "-c", f"import {', '.join(modules)}"], env={"PYTHONPATH": str(guest)})


def test_what_the_image_gets_checks_settings_without_this_tree(guest: Path, tmp_path: Path) -> None:
    modules = define(ROOT, "master").modules
    for one in guest_files({"modules": modules}, {name: str(ROOT / "modules" / name) for name in modules}, guest):
        file = tmp_path / "root" / one.path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(one.content or b"")
    program = "import sys; from hubsmith.guest.main import main; sys.exit(main(sys.argv[1:]))"
    check = ["--root", tmp_path / "root", "settings", "check", SMALLEST.with_name("everything.toml")]
    path = {"PYTHONPATH": str(tmp_path / "root/usr/lib/hubsmith/python")}
    done = run([sys.executable, "-c", program, *check], env=path)
    assert done.stdout.endswith("everything.toml: good\n")
