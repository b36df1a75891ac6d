"""Differences between manifests, built images and roots."""

from __future__ import annotations

import copy
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from hubsmith.cli import main
from hubsmith.paths import project_root
from hubsmith.plan.images import manifest_of

HERE = project_root(Path(__file__))


@pytest.fixture(scope="module")
def manifest() -> dict[str, Any]:
    return manifest_of(HERE, "master")


def write(path: Path, content: Any) -> str:
    path.write_text(json.dumps(content))
    return str(path)


def root_tar(path: Path, **entries: tuple[int, int, bytes]) -> str:
    with tarfile.open(path, "w") as tar:
        for name, (mode, uid, content) in entries.items():
            member = tarfile.TarInfo(f"./etc/{name}")
            member.mode, member.uid, member.size = mode, uid, len(content)
            tar.addfile(member, io.BytesIO(content))
    return str(path)


def test_the_same_is_the_same(manifest: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", write(tmp_path / "a", manifest), write(tmp_path / "b", manifest)]) == 0
    assert capsys.readouterr().out == ""


def test_what_differs_between_manifests_is_named(
    manifest: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = copy.deepcopy(manifest)
    curl = next(package for package in other["debian"] if package["name"] == "curl")
    before = curl["version"]
    curl |= {"version": "99", "installed_size": curl["installed_size"] + 3_000_000}
    gone = other["debian"].pop()
    other["units"]["enable"].append("new.service")
    other["kernel"]["cmdline"].append("quiet")
    other["files"][0]["mode"] = "0700"
    assert main(["diff", write(tmp_path / "a", manifest), write(tmp_path / "b", other)]) == 1
    told = capsys.readouterr().out.splitlines()
    assert f"~ debian curl: version {before} -> 99" in told
    assert f"- debian {gone['name']} {gone['version']}" in told
    assert "+ unit new.service (enable)" in told
    assert any(line.startswith("~ value kernel.cmdline: value [") and line.endswith('"quiet"]') for line in told)
    first = manifest["files"][0]
    assert f"~ file {first['path']}: mode {first['mode']} -> 0700" in told
    assert "      +3.0 MB  debian curl" in told


def test_json_tells_only_the_properties_that_differ(
    manifest: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = copy.deepcopy(manifest)
    other["hostname"] = "other"
    assert main(["diff", "--json", write(tmp_path / "a", manifest), write(tmp_path / "b", other)]) == 1
    (change,) = json.loads(capsys.readouterr().out)
    assert change == {"thing": "value hostname", "before": {"value": manifest["hostname"]}, "after": {"value": "other"}}


def test_roots_are_compared_by_mode_owner_and_content(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = root_tar(tmp_path / "a.tar", same=(0o644, 0, b"x"), mode=(0o644, 0, b"x"), owner=(0o644, 0, b"x"),
                   content=(0o644, 0, b"x"), gone=(0o644, 0, b"x"))  # fmt: skip
    two = root_tar(tmp_path / "b.tar", same=(0o644, 0, b"x"), mode=(0o600, 0, b"x"), owner=(0o644, 7, b"x"),
                   content=(0o644, 0, b"y"), new=(0o644, 0, b"x"))  # fmt: skip
    assert main(["diff", one, two]) == 1
    told = capsys.readouterr().out.splitlines()
    assert told == [
        "~ entry /etc/content: sha256 2d711642b726 -> a1fce4363854",
        "- entry /etc/gone 0644",
        "~ entry /etc/mode: mode 0644 -> 0600",
        "+ entry /etc/new 0644",
        "~ entry /etc/owner: owner 0:0 -> 7:0",
        "",
        "+0.0 MB in all; the largest:",
        "      -0.0 MB  entry /etc/gone",
        "      +0.0 MB  entry /etc/new",
    ]


def test_built_images_are_compared_with_their_entries_and_outputs(
    manifest: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, mode, checksum in (("a", "0644", "11"), ("b", "4755", "22")):
        folder = tmp_path / name
        folder.mkdir()
        write(folder / "manifest.json", manifest)
        write(folder / "entries.json", {"usr/bin/x": {"type": "file", "mode": mode, "owner": "0:0"}})
        (folder / "SHA256SUMS").write_text(f"{checksum * 32}  master.qcow2\n")
    assert main(["diff", str(tmp_path / "a"), str(tmp_path / "b")]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "~ entry /usr/bin/x: mode 0644 -> 4755",
        "~ output master.qcow2: sha256 111111111111 -> 222222222222",
    ]


@pytest.mark.parametrize("kind", ["missing", "text", "empty folder", "other json"])
def test_what_cannot_be_compared_is_an_error_of_its_own(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "thing"
    if kind == "text":
        path.write_text("hello")
    elif kind == "empty folder":
        path.mkdir()
    elif kind == "other json":
        path.write_text('{"a": 1}')
    assert main(["diff", str(path), str(path)]) == 2
    assert f"hubsmith diff: {path}: " in capsys.readouterr().err
