"""The plan: a pure function of definition, lock and module sources."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from local_archive import add_code, tree

from hubsmith import files
from hubsmith.build import sbom
from hubsmith.cli import main
from hubsmith.definition import image_names
from hubsmith.errors import LockError
from hubsmith.lock import DebianPackage, Lock, committed_path, inputs_of, save
from hubsmith.lock.files import load
from hubsmith.lock.models import NpmPackage, NpmTree, PythonEnv, Wheel
from hubsmith.paths import project_root
from hubsmith.plan import dumps, golden
from hubsmith.plan.images import manifest_of
from hubsmith.plan.summary import largest

HERE = project_root(Path(__file__))
SHA = "ab" * 32
MODULE = """[module]
summary = "One"
[packages]
debian = ["curl"]
[packages.python]
hub = ["alpha"]
[packages.npm]
proxy = ["@scope/p"]
[units]
enable = ["b.service", "a.service"]
[modes]
"usr/lib/secret" = { mode = "0750", group = "adm" }
"usr/lib/folder" = { mode = "0700" }
[[ports]]
number = 443
audience = "all"
[[templates]]
source = "x.j2"
target = "/run/hubsmith/x"
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tree(tmp_path / "tree", MODULE)
    module = root / "modules" / "one"
    (module / "templates" / "x.j2").write_text("{{ state }}")
    (module / "templates" / "x.txt").write_text("included by x.j2")
    files = module / "files" / "usr" / "lib"
    (files / "folder").mkdir()
    (files / "folder" / "plain").write_text("plain")
    (files / "secret").write_text("secret")
    (files / "run").write_text("#!/bin/sh\n")
    (files / "run").chmod(0o700)
    (files / "link").symlink_to("run")
    debian = DebianPackage(
        name="curl", version="1:8.14+deb13u1", arch="amd64", archive="debian", path="pool/main/c/curl.deb", size=10,
        sha256=SHA, installed_size=5000, essential=False, priority="optional",
    )  # fmt: skip
    wheel = Wheel(name="alpha", version="1.0", file="alpha.whl", size=10, installed_size=9000, sha256=SHA)
    package = NpmPackage(
        name="@scope/p", version="2.0", location="node_modules/@scope/p", path="@scope/p/-/p-2.0.tgz", size=1,
        installed_size=7000, sha256=SHA, bin={},
    )  # fmt: skip
    lock = Lock(
        schema=1, image="tiny", inputs_sha256=inputs_of(root, "tiny").sha256, source_date_epoch=1_700_000_000,
        debian=[debian], python={"hub": PythonEnv(requirements=["alpha"], wheels=[wheel])},
        npm={"proxy": NpmTree(requirements=["@scope/p"], packages=[package])},
    )  # fmt: skip
    save(lock, committed_path(root, "tiny"))
    add_code(root)
    return root


def plan(root: Path) -> dict[str, Any]:
    return manifest_of(root, "tiny")


#: How the stage `manifest` makes it.
PROGRAM = """
import sys, pathlib
from hubsmith.plan import dumps
from hubsmith.plan.images import manifest_of
sys.stdout.write(dumps(manifest_of(pathlib.Path(sys.argv[1]), "tiny")))
"""


def in_process_of_its_own(root: Path, **environment: str) -> str:
    command = [sys.executable, "-c", PROGRAM, root]
    source = str(HERE / "src")
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, cwd="/", env={"PYTHONPATH": source, **environment}
    )
    return done.stdout


def test_files_have_the_mode_and_owner_that_the_module_says(root: Path) -> None:
    found = {file["path"]: file for file in plan(root)["files"]}
    assert found["/usr/lib/folder/plain"]["mode"] == "0644"
    assert found["/usr/lib/run"]["mode"] == "0755"
    secret = found["/usr/lib/secret"]
    assert (secret["mode"], secret["owner"], secret["group"]) == ("0750", "root", "adm")
    assert found["/usr/lib/link"] == {"module": "one", "path": "/usr/lib/link", "link": "run"}
    assert found["/usr/lib/run"]["sha256"] == files.sha256(root / "modules/one/files/usr/lib/run")
    (folder,) = plan(root)["directories"]
    assert (folder["path"], folder["mode"]) == ("/usr/lib/folder", "0700")


def test_units_are_sorted_and_ports_say_whose_they_are(root: Path) -> None:
    manifest = plan(root)
    assert manifest["units"]["enable"] == ["a.service", "b.service"]
    assert manifest["ports"] == [{"number": 443, "protocol": "tcp", "audience": "all", "module": "one"}]


def test_the_same_inputs_make_the_same_bytes_anywhere_at_any_time(root: Path, tmp_path: Path) -> None:
    first = in_process_of_its_own(root)
    shutil.copytree(root, tmp_path / "another" / "place", symlinks=True)
    elsewhere = tmp_path / "another" / "place"
    for path in elsewhere.rglob("*"):
        if path.is_file() and not path.is_symlink():
            # What git does not keep: other permissions than the executable bit.
            path.chmod(path.stat().st_mode | 0o044)
    second = in_process_of_its_own(elsewhere, TZ="Asia/Tokyo", LANG="de_DE.UTF-8", HUBSMITH_CACHE="/nonexistent")
    assert first == second == dumps(plan(root))


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)


def code(root: Path, path: str) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("# changed\n")


def later(root: Path) -> None:
    path = committed_path(root, "tiny")
    save(load(path).model_copy(update={"source_date_epoch": 2}), path)


@pytest.mark.parametrize(
    "change",
    [
        lambda root: append(root / "modules/one/templates/x.j2", "{{ state }}"),
        lambda root: append(root / "modules/one/files/usr/lib/folder/plain", "other"),
        lambda root: (root / "modules/one/files/usr/lib/folder/plain").chmod(0o755),
        lambda root: (root / "modules/one/extra").write_text("read by the build"),
        lambda root: (root / "modules/one/settings.py").write_text("# declares nothing"),
        lambda root: append(root / "modules/one/module.toml", "[[ports]]\nnumber = 1\n"),
        lambda root: append(root / "images/tiny.toml", '[kernel]\ncmdline = ["quiet"]\n'),
        lambda root: append(root / "modules/one/templates/x.txt", "more"),
        lambda root: (root / "modules/one/templates/x.txt").rename(root / "modules/one/templates/y.txt"),
        lambda root: code(root, "src/hubsmith/guest/status/page.py"),
        lambda root: code(root, "src/hubsmith/settings/schema.py"),
        lambda root: code(root, "src/hubsmith/build/stages/root.py"),
        lambda root: code(root, "src/hubsmith/disk/uki.py"),
        lambda root: code(root, "src/hubsmith/run.py"),
        lambda root: code(root, "nix/enter.sh"),
        lambda root: code(root, "nix/tools.lock.json"),
        later,
    ],
)
def test_each_input_counts(root: Path, change: Callable[[Path], object]) -> None:
    before = dumps(plan(root))
    change(root)
    assert dumps(plan(root)) != before


def test_what_is_no_part_of_the_image_does_not_count(root: Path) -> None:
    before = dumps(plan(root))
    module = root / "modules" / "one"
    (module / "check.py").write_text("def test_x(host): ...")
    (module / "__pycache__").mkdir()
    (module / "__pycache__" / "check.pyc").write_bytes(b"x")
    (module / "files" / "__pycache__").mkdir(parents=True)
    (module / "files" / "__pycache__" / "main.pyc").write_bytes(b"x")
    for path in ("vm/machine.py", "cli/build.py", "build/nix.py", "plan/manifest.py", "guest/__pycache__/x.pyc"):
        code(root, f"src/hubsmith/{path}")
    code(root, "nix/enter.sh~")
    assert dumps(plan(root)) == before


def test_a_stale_lock_makes_no_manifest(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = root / "modules/one/module.toml"
    module.write_text(MODULE.replace("curl", "git"))
    monkeypatch.chdir(root)
    assert main(["plan"]) == 4
    with pytest.raises(LockError, match="hubsmith lock tiny"):
        plan(root)


def test_the_sandbox_needs_only_pydantic(root: Path) -> None:
    blocked = "requests, rich, pypi_simple, debian, jinja2, pytest, urllib3"
    program = f"""
import sys
for name in {blocked.split(", ")!r}:
    sys.modules[name] = None
{PROGRAM}"""
    done = subprocess.run([sys.executable, "-c", program, root], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == dumps(plan(root))


def test_the_largest_packages_come_first(root: Path) -> None:
    assert largest(plan(root), 2) == [(9000, "alpha 1.0 (/opt/hub)"), (7000, "@scope/p 2.0 (/opt/proxy)")]


def test_a_summary_for_people(root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(root)
    assert main(["plan", "tiny", "--largest", "1"]) == 0
    told = capsys.readouterr().out
    assert "1 Debian, 1 Python, 1 npm" in told
    assert "open to all: 443/tcp" in told
    assert "alpha 1.0" in told


# --- the bill of materials


def test_the_bill_of_materials_names_each_package_by_its_purl(root: Path) -> None:
    bill = sbom.make(plan(root))
    assert [one["purl"] for one in bill["components"]] == [
        "pkg:deb/debian/curl@1%3A8.14%2Bdeb13u1?arch=amd64&distro=trixie",
        "pkg:npm/%40scope/p@2.0",
        "pkg:pypi/alpha@1.0",
    ]
    assert bill["metadata"]["timestamp"] == "2023-11-14T22:13:20Z"
    assert bill == sbom.make(plan(root))


@pytest.mark.parametrize("image", image_names(HERE))
def test_the_bill_of_materials_of_every_image_is_cyclonedx(image: str) -> None:
    manifest = manifest_of(HERE, image)
    bill = sbom.make(manifest)
    # With the official schema.
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(files.canonical(bill)) is None
    references = [bill["metadata"]["component"]["bom-ref"], *(one["bom-ref"] for one in bill["components"])]
    assert len(references) == len(set(references))
    assert all(re.fullmatch(r"pkg:(deb/debian|pypi|npm)/[^@ ]+@[^@ ]+", one["purl"]) for one in bill["components"])
    wheels = {(one["name"], one["version"]) for env in manifest["python"].values() for one in env["wheels"]}
    assert sum(one["purl"].startswith("pkg:pypi/") for one in bill["components"]) == len(wheels)
    assert sum(one["purl"].startswith("pkg:deb/") for one in bill["components"]) == len(manifest["debian"])


# --- golden checksums


def test_golden_checksums_say_which_images_a_change_touches() -> None:
    texts = {image: dumps(manifest_of(HERE, image)) for image in image_names(HERE)}
    touched = golden.touched(HERE, texts)
    assert not touched, (
        f"this change touches the images: {', '.join(touched)}. If that is meant, run "
        f"`hubsmith plan --write-golden {' '.join(touched)}` and commit tests/golden/"
    )


def test_golden_checksums_are_written_when_they_change(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(root)
    assert golden.touched(root, {"tiny": dumps(plan(root))}) == ["tiny"]
    for told in ("written", "unchanged"):
        assert main(["plan", "--write-golden"]) == 0
        assert told in capsys.readouterr().out
    assert golden.touched(root, {"tiny": dumps(plan(root))}) == []
    (root / "modules/one/templates/x.j2").write_text("{{ machine }}")
    assert golden.touched(root, {"tiny": dumps(plan(root))}) == ["tiny"]


def test_a_reader_that_has_had_enough() -> None:
    code = "import sys; from hubsmith.cli import main; sys.exit(main(['plan', 'master', '--json']))"
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=project_root(Path(__file__)), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout and process.stderr
    process.stdout.close()
    assert (process.wait(timeout=60), process.stderr.read()) == (141, b"")
