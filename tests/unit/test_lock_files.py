"""Lock files: what they are made from, when they are refused, and what may never be in one."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from local_archive import TINY_IMAGE, TINY_MODULE, tree

from hubsmith.cli import main
from hubsmith.definition import image_names
from hubsmith.errors import LockError
from hubsmith.lock import Lock, committed_path, inputs_of, locate, save
from hubsmith.lock.files import dumps, load, load_matching, refreshed_path
from hubsmith.lock.inputs import TOOLS
from hubsmith.lock.models import Inherited
from hubsmith.paths import project_root

HERE = project_root(Path(__file__))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HUBSMITH_CACHE", str(tmp_path / "cache"))
    return tree(tmp_path / "tree")


def lock_of(root: Path, name: str = "tiny") -> Lock:
    inputs = inputs_of(root, name).sha256
    return Lock(schema=1, image=name, inputs_sha256=inputs, source_date_epoch=1, debian=[], python={}, npm={})


def test_a_lock_is_canonical_and_comes_back_as_it_was(root: Path) -> None:
    path = committed_path(root, "tiny")
    save(lock_of(root), path)
    text = path.read_text()
    assert text == json.dumps(json.loads(text), sort_keys=True, indent=1) + "\n"
    assert load(path) == lock_of(root)
    assert path.stat().st_mode & 0o777 == 0o644


def test_only_what_solvers_see_counts(root: Path) -> None:
    before = inputs_of(root, "tiny").sha256
    module = root / "modules" / "one"
    (module / "templates" / "x.j2").write_text("new")
    (module / "files" / "usr" / "lib" / "x").write_text("new")
    text = TINY_MODULE + '[[ports]]\nnumber = 80\n[[templates]]\nsource = "x.j2"\ntarget = "/run/x"\n'
    (module / "module.toml").write_text(text)
    assert inputs_of(root, "tiny").sha256 == before


@pytest.mark.parametrize("more", ['debian = ["git"]', '[packages.python]\na = ["b"]', '[packages.npm]\na = ["b"]'])
def test_each_kind_of_requirement_counts(root: Path, more: str) -> None:
    before = inputs_of(root, "tiny").sha256
    (root / "modules" / "one" / "module.toml").write_text(TINY_MODULE.replace('debian = ["curl"]', more))
    assert inputs_of(root, "tiny").sha256 != before


def test_of_an_extending_image_what_nix_has_to_know_counts_and_is_in_the_lock(root: Path) -> None:
    head = '[image]\nname = "more"\nsummary = "x"\nextends = "tiny"\n'
    (root / "images" / "more.toml").write_text(head)
    assert inputs_of(root, "tiny").inherited is None
    inherited = inputs_of(root, "more").inherited
    assert inherited == Inherited(bases=["tiny"], suite="trixie", containers=[], container=False)
    before = inputs_of(root, "more").sha256
    assert before != inputs_of(root, "tiny").sha256
    # Packages of the extended image count, and so do its containers; what no solver and no part of Nix sees does not.
    module, tiny = root / "modules" / "one" / "module.toml", root / "images" / "tiny.toml"
    module.write_text(TINY_MODULE.replace("curl", "git"))
    assert inputs_of(root, "more").sha256 != before
    module.write_text(TINY_MODULE)
    tiny.write_text(TINY_IMAGE.replace("A tiny image", "Another summary") + "min_ram_mb = 4096\n")
    assert inputs_of(root, "more").sha256 == before
    box = head.replace("more", "box").replace('extends = "tiny"', 'modules = ["one"]')
    container = '[container]\nuser = "1:1"\nworkdir = "/tmp"\ncommand = ["/bin/sh"]\n'
    (root / "images" / "box.toml").write_text(box + container)
    tiny.write_text(TINY_IMAGE + 'containers = ["box"]\n')
    assert inputs_of(root, "more").sha256 != before
    assert "inherited" not in dumps(lock_of(root))
    (root / "images" / "more.toml").write_text(head.replace("tiny", "box"))
    inherited = inputs_of(root, "more").inherited
    assert inherited is not None and inherited.container


def test_a_lock_that_does_not_match_is_refused_with_the_command_that_mends_it(root: Path) -> None:
    save(lock_of(root), committed_path(root, "tiny"))
    (root / "modules" / "one" / "module.toml").write_text(TINY_MODULE.replace("curl", "git"))
    with pytest.raises(LockError, match="does not match its definition") as caught:
        load_matching(committed_path(root, "tiny"), inputs_of(root, "tiny"))
    assert (caught.value.hint, caught.value.exit_code) == ("hubsmith lock tiny", 4)


def test_a_lock_of_another_image_is_refused(root: Path) -> None:
    save(lock_of(root, TOOLS), committed_path(root, "tiny"))
    with pytest.raises(LockError, match="this is the lock of 'tools', not of 'tiny'"):
        load_matching(committed_path(root, "tiny"), inputs_of(root, "tiny"))


def test_a_damaged_lock_is_named_with_the_key(root: Path) -> None:
    path = committed_path(root, "tiny")
    save(lock_of(root), path)
    path.write_text(path.read_text().replace('"source_date_epoch": 1', '"source_date_epoch": "soon"'))
    with pytest.raises(LockError, match="not a lock that this version reads: source_date_epoch"):
        load(path)


def test_check_needs_no_network_and_answers_by_its_exit_code(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(root)
    for name in ("HUBSMITH_DEBIAN_MIRROR", "HUBSMITH_DEBIAN_SECURITY_MIRROR"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert main(["lock", "--check"]) == 4
    assert "hint: hubsmith lock tools" in capsys.readouterr().err
    for name in (TOOLS, "tiny"):
        save(lock_of(root, name), committed_path(root, name))
    assert main(["lock", "--check"]) == 0
    (root / "modules" / "one" / "module.toml").write_text(TINY_MODULE.replace("curl", "git"))
    assert main(["lock", "--check", "tools"]) == 0
    assert main(["lock", "--check"]) == 4
    # A lock that matches is kept as it is: no archive is asked.
    assert main(["lock", "tools"]) == 0


def test_the_refreshed_lock_is_taken_when_it_is_asked_for_and_matches(root: Path) -> None:
    assert not locate(root, "tiny", refreshed=True).refreshed
    save(lock_of(root), refreshed_path("tiny"))
    assert locate(root, "tiny", refreshed=True).path == refreshed_path("tiny")
    assert not locate(root, "tiny").refreshed
    (root / "modules" / "one" / "module.toml").write_text(TINY_MODULE.replace("curl", "git"))
    assert not locate(root, "tiny", refreshed=True).refreshed


@pytest.mark.parametrize("name", [TOOLS, *image_names(HERE)])
def test_the_committed_locks_are_whole(name: str) -> None:
    path = committed_path(HERE, name)
    lock = load_matching(path, inputs_of(HERE, name))
    text = path.read_text()
    assert text == dumps(lock)
    # No host: nothing that looks like an address, and paths that start in the archive.
    assert "://" not in text
    # (The package docker.io has a folder of that name.)
    assert not re.search(r"\.(org|com|net|io)/", text.replace("/docker.io/", "/"))
    assert all(package.path.startswith("pool/") for package in lock.debian)
    asked = set(inputs_of(HERE, name).debian)
    assert asked <= {package.name for package in lock.debian}
    assert (lock.busybox is not None) == (name == TOOLS)
