"""Python requirements solved by the real pip, for another Python than the one that runs it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from local_archive import Server, serving, wheel

from hubsmith.errors import LockError
from hubsmith.lock import python
from hubsmith.lock.models import DebianPackage
from hubsmith.lock.python import Target

TARGET = Target("3.13.5", "2.41")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    (tmp_path / "www").mkdir()
    with serving(tmp_path / "www") as served:
        monkeypatch.setenv("HUBSMITH_PYPI_INDEX", f"{served.address}/simple/")
        monkeypatch.setenv("HUBSMITH_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        yield served


def files(*requirements: str) -> list[str]:
    return [one.file for one in python.solve("env", requirements, TARGET, "images/tiny.toml")]


def test_markers_are_those_of_the_image_and_not_of_this_machine(index: Server) -> None:
    wheel(
        index.folder, "alpha", "1.0",
        "newer; python_version >= '3.13'",
        "older; python_version < '3.13'",
        "exact; python_full_version == '3.13.5'",
        "windows; sys_platform == 'win32'",
    )  # fmt: skip
    for name in ("newer", "older", "exact", "windows"):
        wheel(index.folder, name, "1.0")
    assert files("alpha") == ["alpha-1.0-py3-none-any.whl", "exact-1.0-py3-none-any.whl", "newer-1.0-py3-none-any.whl"]


def test_the_wheel_fits_the_python_and_the_c_library_of_the_image(index: Server) -> None:
    for tag in ("cp311-cp311-manylinux_2_17_x86_64", "cp313-cp313-manylinux_2_28_x86_64", "cp313-cp313-win_amd64"):
        wheel(index.folder, "alpha", "1.0", tag=tag)
    wheel(index.folder, "alpha", "2.0", tag="cp313-cp313-manylinux_2_42_x86_64")
    wheel(index.folder, "beta", "1.0", tag="cp38-abi3-manylinux2014_x86_64")
    assert files("alpha", "beta") == [
        "alpha-1.0-cp313-cp313-manylinux_2_28_x86_64.whl",
        "beta-1.0-cp38-abi3-manylinux2014_x86_64.whl",
    ]


def test_what_has_no_wheel_is_an_error_that_names_the_environment(index: Server) -> None:
    place = index.folder / "simple" / "alpha"
    place.mkdir(parents=True)
    (place / "alpha-1.0.tar.gz").write_bytes(b"source")
    (place / "index.html").write_text('<a href="alpha-1.0.tar.gz">alpha-1.0.tar.gz</a>')
    with pytest.raises(LockError, match=r"(?s)no solution for the environment 'env'.*alpha") as caught:
        files("alpha")
    assert caught.value.where == "images/tiny.toml"


def test_wheels_that_lie_about_on_this_machine_are_not_taken(
    index: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel(index.folder, "alpha", "1.0")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel(tmp_path / "lying", "alpha", "2.0").parent))
    assert files("alpha") == ["alpha-1.0-py3-none-any.whl"]


def test_sizes_are_learned_from_the_wheels_themselves(index: Server) -> None:
    path = wheel(index.folder, "alpha", "1.0")
    env = python.complete(["alpha"], python.solve("env", ["alpha"], TARGET, "x"))
    (found,) = env.wheels
    assert found.size == path.stat().st_size
    assert found.installed_size > 1000
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    # The second time it is in the cache: no index is asked.
    index.log.clear()
    assert python.complete(["alpha"], [python.Chosen("alpha", "1.0", path.name, found.sha256)]) == env
    assert index.log == []


def debian(name: str, version: str) -> DebianPackage:
    return DebianPackage(
        name=name, version=version, arch="amd64", archive="debian", path="p", size=1, sha256="0" * 64,
        installed_size=1, essential=False, priority="optional",
    )  # fmt: skip


def test_the_target_is_read_from_the_packages_of_the_image() -> None:
    packages = [
        debian("libc6", "2.41-12+deb13u1"),
        debian("python3.13", "3.13.5-2+deb13u1"),
        debian("python3", "3.13.5-1"),
    ]
    assert python.target_of(packages, "x") == TARGET
    with pytest.raises(LockError, match=r'x: .* the image has no Python\n  hint: add "python3"'):
        python.target_of([debian("libc6", "2.41-12")], "x")


def test_platforms_run_from_the_c_library_of_the_image_down_to_the_oldest() -> None:
    tags = Target("3.13.5", "2.18").platforms
    assert tags[:4] == [
        "manylinux_2_18_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64", "manylinux_2_16_x86_64",
    ]  # fmt: skip
    assert tags[-3:] == ["manylinux_2_5_x86_64", "manylinux1_x86_64", "linux_x86_64"]
