"""`hubsmith check`: waiting for a machine that starts, and the checks of modules as pytest really runs them."""

from __future__ import annotations

from pathlib import Path

import pytest
from local_archive import tree

from hubsmith.deploy.check import Check, Health, counts, run_checks, settled
from hubsmith.errors import HarnessFailed

GOOD = {"name": "settings", "state": "ready", "why": "applied"}
STARTING = {"name": "jupyterhub", "state": "starting", "why": "is starting"}


def wait_for(*looks: Health, wait: float = 30) -> tuple[Health, list[str], int]:
    """What :func:`settled` returns and reports for a machine that answers like this, and how many answers it took."""
    left, told = list(looks), []

    def look() -> Health:
        return left.pop(0) if len(left) > 1 else left[0]

    found = settled("hub", look, lambda name, line: told.append(f"{name}: {line}"), wait=wait, interval=0)
    return found, told, len(looks) - len(left)


def test_it_waits_while_something_starts_and_says_for_what() -> None:
    other = {**STARTING, "name": "proxy"}
    looks = [Health((), (GOOD, STARTING)), Health((), (GOOD, STARTING)), Health((), (other,)), Health((), (GOOD,))]
    found, told, _ = wait_for(*looks)
    assert found.notes == []
    assert told == ["hub: waiting for jupyterhub: is starting", "hub: waiting for proxy: is starting"]


@pytest.mark.parametrize(
    "bad",
    [
        Health(("nginx.service",), (STARTING,)),
        Health((), (STARTING, {"name": "proxy", "state": "failed", "why": "ended"})),
        Health((), ({"name": "settings", "state": "refused", "why": "line 1"}, STARTING)),
    ],
)
def test_it_ends_at_once_when_something_has_failed(bad: Health) -> None:
    found, _, looked = wait_for(Health((), (STARTING,)), bad, Health((), (GOOD,)))
    assert found == bad
    assert looked == 2
    assert found.notes


def test_it_does_not_wait_for_ever() -> None:
    found, told, _ = wait_for(Health((), (STARTING,)), wait=0)
    assert found.notes == ["jupyterhub: is starting"]
    assert told[-1] == "hub: still not ready after 0 s"


CHECKS = """
import pytest

def test_it_runs(host):
    assert host.file("/").is_directory

@pytest.mark.parametrize("name", ["x"])
def test_a_name(host, name):
    assert host.backend.get_pytest_id() == "local"

@pytest.fixture
def engine(host):
    pytest.skip("no cluster: the engine is off")

def test_needs_the_engine(host, engine):
    raise AssertionError

def test_is_wrong(host):
    assert host.file("/").mode == 0o123, "the mode of /"

@pytest.fixture
def broken(host):
    yield
    raise RuntimeError("cleaning up failed")

def test_ends_badly(host, broken):
    pass
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tree(tmp_path)
    (root / "modules" / "one" / "check.py").write_text(CHECKS)
    for name, text in (("two", "def test_two(host): pass"), ("broken", "import no_such_module")):
        (root / "modules" / name).mkdir()
        (root / "modules" / name / "check.py").write_text(text)
    return root


def checks_of(root: Path, *modules: str, hosts: str = "local://") -> tuple[list[Check], list[Check]]:
    told: list[Check] = []
    return run_checks(root, modules, [f"--hosts={hosts}"], told.append), told


def test_each_check_is_told_with_its_outcome_and_reason(root: Path) -> None:
    found, told = checks_of(root, "one", "without-checks", "two")
    assert told == found
    assert [(check.module, check.name, check.outcome, check.reason) for check in found] == [
        ("one", "test_it_runs", "passed", ""),
        ("one", "test_a_name[x]", "passed", ""),
        ("one", "test_needs_the_engine", "skipped", "no cluster: the engine is off"),
        ("one", "test_is_wrong", "failed", "AssertionError: the mode of /"),
        ("one", "test_ends_badly", "failed", "RuntimeError: cleaning up failed"),
        ("two", "test_two", "passed", ""),
    ]
    assert "host.file" in found[3].details
    assert {module: dict(number) for module, number in counts(found).items()} == {
        "one": {"passed": 2, "skipped": 1, "failed": 2},
        "two": {"passed": 1},
    }


def test_checks_that_cannot_be_loaded_have_failed(root: Path) -> None:
    found, _ = checks_of(root, "broken")
    assert [(check.module, check.name, check.outcome) for check in found] == [("broken", "check.py", "failed")]
    assert "no_such_module" in found[0].reason


def test_nothing_stays_beside_the_checks(root: Path) -> None:
    """Images are made of the modules' folders."""
    checks_of(root, "one")
    assert sorted(path.name for path in (root / "modules" / "one").iterdir()) == [
        "check.py", "files", "module.toml", "templates",
    ]  # fmt: skip


def test_a_pytest_that_cannot_run_is_the_harness(root: Path) -> None:
    with pytest.raises(HarnessFailed, match=r"ended with exit code 4:(.|\n)*nosuch"):
        run_checks(root, ["two"], ["--hosts=local://", "--nosuch"], lambda check: None)
