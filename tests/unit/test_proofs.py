"""Proofs: what a test depends on, and what a run records, leaves out and takes back. pytest really runs."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hubsmith.testing.fingerprint import fingerprint
from hubsmith.testing.proofs import Inputs, Proofs
from hubsmith.testing.sources import Source, Tree

#: A project in small: two machines' tests, one of a deployment, one of a build's files, and a fast one.
FILES = {
    "src/hubsmith/__init__.py": "",
    "src/hubsmith/vm/__init__.py": "",
    "src/hubsmith/vm/machine.py": "from hubsmith.vm.disks import SIZE\n",
    "src/hubsmith/vm/disks.py": "SIZE = 1\n",
    "src/hubsmith/vm/keeper.py": "",
    "src/hubsmith/cli/__init__.py": "import importlib\n\n"
    'def find(verb):\n    return importlib.import_module(f"hubsmith.cli.{verb}")\n',
    "src/hubsmith/cli/up.py": "",
    "src/hubsmith/cli/ssh_for_each.py": "",
    "src/hubsmith/cli/lock.py": "",
    "images/toy.toml": '[image]\nname = "toy"\nsummary = "A toy"\nhostname = "toy"\nmodules = ["toy"]\n',
    "modules/toy/module.toml": '[module]\nsummary = "A toy"\n',
    "modules/toy/check.py": "",
    "modules/toy/files/etc/toy": "",
    "modules/unused/module.toml": '[module]\nsummary = "In no image"\n',
    "modules/unused/files/etc/unused": "",
    "hosts/pair.toml": '[hosts.first]\nimage = "toy"\n[hosts.second]\nimage = "other"\n',
    "out/toy/SHA256SUMS": f"{'1' * 64}  toy.qcow2\n{'2' * 64}  sbom.cdx.json\n",
    "out/toy/toy.qcow2": "",
    "out/other/SHA256SUMS": f"{'3' * 64}  other.qcow2\n",
    "out/other/other.qcow2": "",
    "tests/conftest.py": "import pytest\n",
    "tests/unit/test_quick.py": "def test_quick():\n    pass\n",
    "tests/vm/clients.py": "import pytest\n\n@pytest.fixture\ndef client():\n    from hubsmith.vm import machine\n",
    "tests/vm/conftest.py": "import sys, pathlib\nsys.path.insert(0, str(pathlib.Path(__file__).parent))\n"
    "from clients import client\n",
    "tests/vm/guest.S": "nop\n",
    "tests/vm/test_client.py": "def test_one(client):\n    pass\n\ndef test_two(client):\n    pass\n",
    "tests/vm/test_guest.py": 'GUEST = "guest.S"\n\ndef test_guest():\n    assert "hubsmith.vm.keeper"\n',
    "tests/scenarios/test_pair.py": 'FILE = "hosts/pair.toml"\nVERBS = "up", "ssh-for-each"\n\n'
    "def test_pair():\n    code = 'from hubsmith.cli import main'\n",
    "tests/image/test_files.py": "import pytest\n\n@pytest.fixture(params=['toy'])\ndef output(request):\n"
    "    return request.param\n\ndef test_files(output):\n    pass\n",
}
QUICK = "tests/unit/test_quick.py::test_quick"
CLIENT = {"tests/vm/test_client.py::test_one", "tests/vm/test_client.py::test_two"}
GUEST, PAIR = "tests/vm/test_guest.py::test_guest", "tests/scenarios/test_pair.py::test_pair"
OUTPUT = "tests/image/test_files.py::test_files[toy]"
ALL = {*CLIENT, GUEST, PAIR, OUTPUT}


@dataclass
class Project:
    """A tree, and runs of its tests."""

    root: Path

    def write_all(self, texts: Mapping[str, str]) -> None:
        for name, text in texts.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def command(self, *words: str) -> list[str]:
        plugins = [word for name in ("plugin", "proving") for word in ("-p", f"hubsmith.testing.{name}")]
        return [sys.executable, "-m", "pytest", "-v", "-c", "/dev/null", f"--rootdir={self.root}",
                "-o", "testpaths=tests", "-p", "no:cacheprovider", *plugins, *words]  # fmt: skip

    def run(self, *words: str, sample: float = 0) -> tuple[int, set[str], str]:
        """Exit code, the tests that ran, and all that was printed."""
        done = subprocess.run(
            self.command("--unproven", f"--sample={sample}", *words), cwd=self.root, capture_output=True, text=True
        )
        ran = set(re.findall(r"^(tests/\S+) (?:PASSED|FAILED|SKIPPED|ERROR)", done.stdout, re.M))
        return done.returncode, ran, done.stdout + done.stderr

    def proven(self) -> set[str]:
        return set(Proofs(self.root))

    def commit(self) -> None:
        git(self.root, "add", "--all")
        git(self.root, "commit", "--quiet", "--message", "tree")


def git(root: Path, *words: str) -> None:
    author = ["-c", "user.name=Tester", "-c", "user.email=tester@example.org"]
    subprocess.run(["git", *author, *words], cwd=root, check=True)


def made_in(folder: Path) -> Project:
    made = Project(folder)
    made.write_all({**FILES, ".gitignore": "out/\n__pycache__/\n"})
    git(folder, "init", "--quiet")
    made.commit()
    return made


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return made_in(tmp_path)


@pytest.fixture(scope="module")
def proven_project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    made = made_in(tmp_path_factory.mktemp("proven"))
    assert made.run()[0] == 0
    return made


@pytest.fixture
def proven(proven_project: Project, tmp_path: Path) -> Project:
    """A project whose tests are all proven, in another folder than where they ran."""
    shutil.copytree(proven_project.root, tmp_path / "tree")
    return Project(tmp_path / "tree")


def test_what_passed_is_not_run_again_and_fast_tests_always_are(project: Project) -> None:
    code, ran, told = project.run()
    assert (code, ran) == (0, {QUICK, *ALL}), told
    assert project.proven() == ALL
    proof = json.loads((project.root / "tests/proofs/vm/test_guest.json").read_text())["test_guest"]
    assert proof.keys() == {"inputs", "date", "seconds", "commit", "qemu"}
    code, ran, told = project.run()
    assert (code, ran) == (0, {QUICK}), told
    assert re.search(r"^vm +0 +3 +0$", told, re.M)
    assert re.search(r"^all +1 +5 +0$", told, re.M)
    assert project.run("--fresh")[1] == {QUICK, *ALL}


@pytest.mark.parametrize(
    ("file", "text", "invalid"),
    [
        ("tests/vm/test_guest.py", FILES["tests/vm/test_guest.py"].replace("assert", "assert 1 and"), {GUEST}),
        ("tests/vm/guest.S", "hlt\n", {GUEST}),
        ("hosts/pair.toml", "this is no TOML", {PAIR}),
        ("tests/vm/clients.py", FILES["tests/vm/clients.py"] + "\nx = 1\n", CLIENT),
        ("src/hubsmith/vm/disks.py", "SIZE = 2\n", CLIENT),
        ("src/hubsmith/vm/keeper.py", "x = 1\n", {GUEST}),
        ("src/hubsmith/vm/__init__.py", "x = 1\n", {*CLIENT, GUEST}),
        ("hosts/pair.toml", FILES["hosts/pair.toml"] + "cpus = 2\n", {PAIR}),
        ("src/hubsmith/cli/up.py", "x = 1\n", {PAIR}),
        ("src/hubsmith/cli/ssh_for_each.py", "x = 1\n", {PAIR}),
        ("src/hubsmith/cli/lock.py", "x = 1\n", set()),
        ("out/toy/SHA256SUMS", f"{'4' * 64}  toy.qcow2\n{'2' * 64}  sbom.cdx.json\n", {PAIR, OUTPUT}),
        ("out/toy/SHA256SUMS", f"{'1' * 64}  toy.qcow2\n{'4' * 64}  sbom.cdx.json\n", {OUTPUT}),
        ("out/other/SHA256SUMS", f"{'4' * 64}  other.qcow2\n", {PAIR}),
        ("src/hubsmith/vm/disks.py", '"""Disks."""\n# in MiB\nSIZE=1\n', set()),
        ("modules/toy/check.py", "x = 1\n", set()),
        ("README.md", "A project.\n", set()),
    ],
)  # fmt: skip
def test_a_change_invalidates_exactly_what_depends_on_it(
    file: str, text: str, invalid: set[str], proven: Project
) -> None:
    proven.write_all({file: text})
    assert proven.run()[1] == {QUICK, *invalid}


def test_failures_and_skips_are_not_recorded(project: Project) -> None:
    project.write_all({
        "tests/vm/test_guest.py": "import pytest\n\ndef test_guest():\n    pytest.skip('no guest')\n",
        "tests/vm/test_client.py": "def test_one(client):\n    assert False\n\ndef test_two(client):\n    pass\n",
    })  # fmt: skip
    code, _, told = project.run()
    assert code == 1
    assert project.proven() == {"tests/vm/test_client.py::test_two", PAIR, OUTPUT}
    assert "NOT PROVEN: 2\n  tests/vm/test_client.py::test_one\n  tests/vm/test_guest.py::test_guest\n" in told


def test_a_test_whose_teardown_fails_is_not_proven(project: Project) -> None:
    project.write_all(
        {"tests/vm/clients.py": "import pytest\n\n@pytest.fixture\ndef client():\n    yield\n    assert False\n"}
    )
    assert project.run()[0] == 1
    assert project.proven() == ALL - CLIENT


def test_a_proof_that_is_contradicted_is_deleted(project: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    switch = tmp_path_factory.mktemp("elsewhere") / "switch"
    project.write_all(
        {"tests/vm/test_guest.py": f"import os\n\ndef test_guest():\n    assert not os.path.exists({str(switch)!r})\n"}
    )
    assert project.run()[0] == 0
    assert project.run(sample=60)[:2] == (0, {QUICK, *ALL})
    switch.touch()
    code, _, told = project.run(sample=60)
    assert code == 1
    assert f"contradicted proofs, deleted: 1\n  {GUEST}\n" in told
    assert project.proven() == ALL - {GUEST}


def test_a_harness_that_fails_contradicts_nothing(project: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    switch = tmp_path_factory.mktemp("elsewhere") / "switch"
    body = f"    if os.path.exists({str(switch)!r}): raise HarnessFailed('no memory')\n"
    head = "import os\nfrom hubsmith.errors import HarnessFailed\n"
    tests = "".join(f"\ndef test_{name}():\n{body}" for name in ("one", "two"))
    project.write_all({
        "src/hubsmith/errors.py": "",
        "tests/vm/test_client.py": head + tests,
        "tests/vm/test_guest.py": head + f"\ndef test_guest():\n{body}",
    })  # fmt: skip
    for path in ("tests/scenarios/test_pair.py", "tests/image/test_files.py"):
        (project.root / path).unlink()
    assert project.run()[0] == 0
    switch.touch()
    code, ran, told = project.run(sample=60)
    assert (code, len(ran)) == (1, 2), told
    assert project.proven() == {*CLIENT, GUEST}
    assert "NOT PROVEN" not in told


def test_slow_tests_are_run_when_asked_for_and_always_named(project: Project) -> None:
    project.write_all({
        "tests/vm/test_guest.py": "import pytest\n\n@pytest.mark.slow\ndef test_guest():\n    pass\n",
    })  # fmt: skip
    code, ran, told = project.run()
    assert (code, ran) == (0, {QUICK, *ALL} - {GUEST})
    assert f"NOT PROVEN, slow (scripts/test --all runs them): 1\n  {GUEST}\n" in told
    assert project.run("--all")[1] == {QUICK, GUEST}
    assert "NOT PROVEN" not in project.run()[2]


@pytest.mark.parametrize(
    ("test", "input_", "change"),
    [
        (PAIR, "hosts/pair.toml", 'open("out/toy/SHA256SUMS", "w").write("5  toy.qcow2\\n")'),
        (GUEST, "guest.S", 'open("tests/vm/" + "guest.S", "w").write("hlt")'),
    ],
    ids=["image-built", "file-edited"],
)
def test_an_input_that_changes_meanwhile_proves_nothing(project: Project, test: str, input_: str, change: str) -> None:
    file, _, name = test.partition("::")
    project.write_all({file: f'INPUT = "{input_}"\n\ndef {name}():\n    {change}\n'})
    assert project.run("-k", name)[0] == 1
    assert test not in project.proven()
    assert project.run("-k", name)[0] == 0


def test_a_tree_that_is_no_checkout(project: Project) -> None:
    shutil.rmtree(project.root / ".git")
    assert project.run()[:2] == (0, {QUICK, *ALL})


def test_when_the_time_is_over_nothing_new_begins(project: Project) -> None:
    code, ran, told = project.run("--stop-at=0")
    assert (code, ran) == (1, {QUICK})
    assert "NOT PROVEN: 5\n" in told


def test_the_newest_changes_come_first(project: Project) -> None:
    project.write_all({"tests/vm/test_guest.py": FILES["tests/vm/test_guest.py"] + "\n\nx = 1\n"})
    _, _, told = project.run()
    ran = re.findall(r"^(tests/\S+) PASSED", told, re.M)
    assert ran[:2] == [QUICK, GUEST]


def test_files_with_slow_tests_only_come_last(project: Project) -> None:
    slow = "import pytest\n\n@pytest.mark.slow\ndef test_guest():\n    pass\n"
    project.write_all({"tests/vm/test_guest.py": slow})
    _, _, told = project.run("--all")
    assert re.findall(r"^(tests/\S+) PASSED", told, re.M)[-1] == GUEST


@pytest.mark.parametrize("kill", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_run_goes_on_where_it_was(
    kill: signal.Signals, project: Project, tmp_path_factory: pytest.TempPathFactory
) -> None:
    begun = tmp_path_factory.mktemp("elsewhere") / "begun"
    long = f"import time\n\ndef test_guest():\n    open({str(begun)!r}, 'w').close()\n    time.sleep(60)\n"
    project.write_all({"tests/vm/test_zguest.py": long})
    project.commit()
    process = subprocess.Popen(project.command("--unproven"), cwd=project.root, stdout=subprocess.PIPE, text=True)
    while not begun.exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(kill)
    told = process.communicate(timeout=30)[0]
    assert process.returncode != 0
    assert kill == signal.SIGKILL or "NOT PROVEN: 1\n  tests/vm/test_zguest.py::test_guest\n" in told
    assert project.proven() == ALL
    project.write_all({"tests/vm/test_zguest.py": "def test_guest():\n    pass\n"})
    assert project.run()[1] == {QUICK, "tests/vm/test_zguest.py::test_guest"}


@pytest.mark.parametrize(
    ("body", "marker", "stray"),
    [
        ("open('modules/toy/check.py').close()", "", "modules/toy/check.py"),
        ("subprocess.run(['cat', str(pathlib.Path('modules/toy/check.py').resolve())])", "", "modules/toy/check.py"),
        ("open('modules/toy/module.toml').close()", "", "modules/toy/module.toml"),
        ("open('modules/toy/check.py').close()", "@pytest.mark.reads('modules/*/check.py')", ""),
        ("open('out/toy/toy.qcow2').close()", "", ""),
        ("with pytest.raises(OSError): subprocess.run(['/nowhere/hub' + 'smith'])", "", "src/hubsmith/cli/__init__.py"),
        ("with pytest.raises(OSError): subprocess.run(['hubsmith'], env={'PATH': '/nowhere'})", "", ""),
        # Longer than a path may be.
        ("subprocess.run(['sh', '-c', ':' + 5000 * ' '])", "", ""),
    ],
)
def test_what_is_read_must_be_an_input(body: str, marker: str, stray: str, project: Project) -> None:
    text = f"import pathlib, pytest, subprocess\n\n{marker}\ndef test_guest():\n    {body.replace(chr(39), chr(34))}\n"
    # Put together, the path is no string that would make it an input.
    project.write_all(
        {"tests/vm/test_guest.py": text.replace("modules/toy/", 'modules" "/toy/').replace('" "', '" + "')}
    )
    code, _, told = project.run()
    assert code == (1 if stray else 0), told
    assert (GUEST in project.proven()) == (not stray)
    assert not stray or f"the test reads {stray}, which is not among its inputs" in told
    if marker:
        project.write_all({"modules/toy/check.py": "x = 1\n"})
        assert project.run()[1] == {QUICK, GUEST}


def test_what_a_fixture_reads_counts_for_all_its_tests(project: Project) -> None:
    project.write_all({
        "tests/conftest.py": "import pytest\n\n@pytest.fixture(scope='session')\ndef checks():\n"
        "    open('modules/' + 'toy/check.py').close()\n",
        "tests/vm/test_client.py": "import pytest\n\n@pytest.mark.reads('modules/*/check.py')\n"
        "def test_one(checks):\n    pass\n\ndef test_two(checks):\n    pass\n",
    })  # fmt: skip
    code, _, told = project.run()
    assert (code, project.proven()) == (1, ALL - {"tests/vm/test_client.py::test_two"}), told
    assert "test_two" in told.partition("which is not among its inputs")[0]


def test_a_module_that_is_imported_late_must_be_an_input(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    late = "def test_guest():\n    import importlib\n    importlib.import_module('la' + 'te')\n"
    project.write_all({"tests/vm/late.py": "", "tests/vm/test_guest.py": late})
    for _ in range(2):  # the second time its bytecode is there
        code, _, told = project.run("-k", "guest")
        assert code == 1
        assert "the test reads tests/vm/late.py" in told


@pytest.mark.parametrize(
    ("name", "stray"),
    [
        ("toy/module.toml", False),
        ("toy/files/etc/toy", False),
        ("toy/check.py", True),
        ("unused/files/etc/unused", True),
    ],
)
def test_an_image_stands_for_what_it_is_made_of(name: str, stray: bool, project: Project) -> None:
    text = f'FILE = "hosts/pair.toml"\n\ndef test_pair():\n    open("modules/" + "{name}").close()\n'
    project.write_all({"tests/scenarios/test_pair.py": text})
    assert project.run("-k", "test_pair")[0] == int(stray)
    assert (PAIR in project.proven()) != stray


def test_the_report_of_an_image(project: Project) -> None:
    def report(*words: str) -> dict[str, Any]:
        file = project.root / "report.json"
        file.unlink(missing_ok=True)
        subprocess.run(
            project.command("--about=toy", f"--report={file}", *words), cwd=project.root, capture_output=True
        )
        found: dict[str, Any] = json.loads(file.read_text())
        return found

    (project.root / "out/toy/toy.qcow2").write_text("the disk")
    sha256 = fingerprint(project.root / "out/toy/toy.qcow2")
    project.write_all({"out/toy/SHA256SUMS": f"{sha256}  toy.qcow2\n"})
    checks = "{'passed': 2, 'skipped': {'c': 'why'}}"
    pair = f"@pytest.mark.slow\ndef test_pair(record_property):\n    record_property('checks', {checks})\n"
    project.write_all({"tests/scenarios/test_pair.py": f'import pytest\nFILE = "hosts/pair.toml"\n\n{pair}'})
    nothing = report("--stop-at=0")
    assert (nothing["green"], nothing["missing"]) == (False, {OUTPUT: "not run", PAIR: "not run"})
    green = report()
    assert (green["green"], green["sha256"], set(green["tests"])) == (True, sha256, {OUTPUT, PAIR})
    assert green["counts"] == {"passed": 2, "missing": 0, "checks": 2, "checks_skipped": 1}
    assert green["skipped_checks"] == {f"{PAIR}: c": "why"}
    # A test that fails, and one that is skipped, are missing.
    project.write_all(
        {"tests/scenarios/test_pair.py": 'FILE = "hosts/pair.toml"\n\ndef test_pair():\n    assert False\n'}
    )
    project.write_all(
        {"tests/image/test_files.py": FILES["tests/image/test_files.py"].replace("pass", "pytest.skip('no')")}
    )
    bad = report()
    assert (bad["green"], bad["missing"]) == (False, {OUTPUT: "skipped: Skipped: no", PAIR: "image"})


def hubsmith_test(project: Project, *words: str) -> subprocess.CompletedProcess[str]:
    """`hubsmith test toy`, as an operator runs it."""
    code = "import sys; from hubsmith.cli import main; sys.exit(main())"
    argv = [sys.executable, "-c", code, "test", "toy", *words]
    return subprocess.run(argv, cwd=project.root, capture_output=True, text=True)


def test_the_verb_runs_what_is_missing(project: Project) -> None:
    project.write_all({
        "pytest.ini": "[pytest]\nmarkers = slow\n",
        "tests/conftest.py": 'pytest_plugins = ["hubsmith.testing.plugin", "hubsmith.testing.proving"]\n',
        "out/toy/SHA256SUMS": f"{fingerprint(project.root / 'out/toy/toy.qcow2')}  toy.qcow2\n",
    })  # fmt: skip
    told = hubsmith_test(project, "--list")
    assert told.returncode == 7, told.stderr
    assert told.stdout.startswith("not green: 0 tests passed, 2 missing")
    assert f"NOT PROVEN: 2\n  {OUTPUT}\n  {PAIR}\n" in told.stderr
    told = hubsmith_test(project)
    assert (told.returncode, told.stdout.partition(";")[0]) == (0, "green: 2 tests passed, 0 missing"), told.stderr
    assert json.loads(hubsmith_test(project, "--list", "--json").stdout)["green"] is True
    # The disk is not what was built: no report, and an older one is gone.
    (project.root / "out/toy/toy.qcow2").write_text("changed")
    told = hubsmith_test(project)
    assert told.returncode == 8
    assert "it is not what was built" in told.stderr
    assert not (project.root / "out/toy/test-report.json").exists()


def test_a_file_that_cannot_be_imported_leaves_no_report(project: Project) -> None:
    file = project.root / "report.json"
    project.run()
    project.write_all({"tests/vm/test_client.py": "import nowhere\n"})
    subprocess.run(project.command("--about=toy", f"--report={file}"), cwd=project.root, capture_output=True)
    assert not file.exists()


def test_proofs_of_tests_that_are_gone_are_removed(proven: Project) -> None:
    (proven.root / "tests/vm/test_guest.py").unlink()
    proven.write_all({"tests/vm/test_client.py": "def test_one(client):\n    pass\n"})
    for some in (["-k", "quick"], ["--deselect", QUICK], ["--ignore=tests/vm"], ["tests/unit"], ["-m", "not slow"]):
        proven.run(*some)
        assert proven.proven() == ALL, some
    proven.run()
    assert proven.proven() == ALL - {GUEST, "tests/vm/test_client.py::test_two"}
    assert not (proven.root / "tests/proofs/vm/test_guest.json").exists()


def test_runs_at_the_same_time_keep_each_others_proofs(tmp_path: Path) -> None:
    first, second = Proofs(tmp_path), Proofs(tmp_path)
    assert first.get(GUEST) is second.get(GUEST) is None
    first.record(GUEST, Inputs())
    second.record(GUEST.replace("guest", "other"), Inputs())
    second.record(f"{GUEST}[other]", Inputs())
    first.delete(f"{GUEST}[none]")
    assert len(set(Proofs(tmp_path))) == 3


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("# A comment.\ndef f(x):\n    return x + 1\n", True),
        ('def f(x):\n    """Docstring."""\n    return (x+1)\n', True),
        ("def f(x):\n    return x + 2\n", False),
        ("def f(x):\n    return x + 1\ny = 1\n", False),
        ("def f(x):\n    return x + 1.0\n", False),
        ("def f(x):\n    return x + True\n", False),
        ("def f(x):\n    return x + '1'\n", False),
        ("def f(x):\n    return x + b'1'\n", False),
    ],
)
def test_the_fingerprint_of_a_program_is_that_of_what_it_does(text: str, same: bool, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("def f(x):\n    return x + 1\n")
    (tmp_path / "b.py").write_text(text)
    assert (fingerprint(tmp_path / "a.py") == fingerprint(tmp_path / "b.py")) == same


def test_a_program_that_reads_its_docstring_changes_with_it(tmp_path: Path) -> None:
    for name, docstring in (("a", "One."), ("b", "Two.")):
        (tmp_path / f"{name}.py").write_text(f'"""{docstring}"""\nprint(__doc__)\n')
    assert fingerprint(tmp_path / "a.py") != fingerprint(tmp_path / "b.py")


def test_relative_imports_and_packages(tmp_path: Path) -> None:
    path = tmp_path / "m.py"
    path.write_text("from . import a\nfrom .b import c\nfrom ..d import e\nimport f.g\n")
    modules = Source.parse(path, "top.inner").modules
    assert {"top.inner.a", "top.inner.b", "top.inner.b.c", "top.d.e", "f.g"} <= modules


def test_this_tree(pytestconfig: pytest.Config) -> None:
    """What a known file depends on: a change of the derivation shows here, not in proofs that hold too long."""
    root = pytestconfig.rootpath
    closure = {
        path.relative_to(root).as_posix() for path in Tree(root).closure([root / "tests/scenarios/test_workshop.py"])
    }
    assert {
        "hosts/workshop-swarm.toml", "src/hubsmith/cli/up.py", "src/hubsmith/deploy/fleet.py",
        "src/hubsmith/vm/metadata_server.py", "tests/scenarios/workshop.py", "tests/vm/hub_client.py",
    } <= closure  # fmt: skip
    assert not [
        path for path in closure if path.startswith(("src/hubsmith/lock", "src/hubsmith/testing/pro", "modules"))
    ]
