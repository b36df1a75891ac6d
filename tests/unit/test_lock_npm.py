"""npm requirements solved by the real npm, for another Node.js than the one that runs it."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from local_archive import Server, npm_package, serving

from hubsmith.errors import FetchError, LockError
from hubsmith.lock import npm
from hubsmith.lock.models import NpmTree


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    (tmp_path / "www").mkdir()
    with serving(tmp_path / "www") as served:
        monkeypatch.setenv("HUBSMITH_NPM_REGISTRY", served.address)
        monkeypatch.setenv("HUBSMITH_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("npm_config_cache", str(tmp_path / "npm"))
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        yield served


def put(registry: Server, name: str, version: str, **manifest: object) -> Path:
    return npm_package(registry.folder, registry.address, name, version, **manifest)


def solve(*requirements: str, node: str = "20.19.2") -> NpmTree:
    return npm.complete(requirements, npm.solve("tree", requirements, node, "images/tiny.toml"))


def test_a_tree_is_written_down_with_locations_paths_checksums_and_programs(registry: Server) -> None:
    put(registry, "proxy", "5.0.0", dependencies={"@scope/log": "^1.0.0", "two": "^1.0.0"}, bin={"proxy": "./bin/p.js"})
    put(registry, "@scope/log", "1.2.0", dependencies={"two": "^2.0.0"})
    put(registry, "two", "1.0.0")
    tarball = put(registry, "two", "2.1.0")
    found = {one.location: one for one in solve("proxy").packages}
    assert sorted(found) == [
        "node_modules/@scope/log", "node_modules/@scope/log/node_modules/two", "node_modules/proxy", "node_modules/two",
    ]  # fmt: skip
    nested = found["node_modules/@scope/log/node_modules/two"]
    assert (nested.version, nested.path) == ("2.1.0", "two/-/two-2.1.0.tgz")
    assert nested.sha256 == hashlib.sha256(tarball.read_bytes()).hexdigest()
    assert nested.size == tarball.stat().st_size
    assert found["node_modules/@scope/log"].path == "@scope/log/-/log-1.2.0.tgz"
    assert found["node_modules/proxy"].bin == {"proxy": "bin/p.js"}


def test_versions_fit_the_nodejs_of_the_image(registry: Server) -> None:
    put(registry, "tool", "1.0.0", engines={"node": ">=18"})
    put(registry, "tool", "2.0.0", engines={"node": ">=90"})
    # npm 9 takes the latest release whatever it needs: only below it does it choose.
    put(registry, "tool", "3.0.0")
    assert [one.version for one in solve("tool@<3").packages] == ["1.0.0"]
    assert [one.version for one in solve("tool@<3", node="90.1.0").packages] == ["2.0.0"]


def test_a_package_that_insists_on_another_nodejs_is_warned_of(
    registry: Server, caplog: pytest.LogCaptureFixture
) -> None:
    put(registry, "proxy", "1.0.0", dependencies={"tool": "2.0.0"})
    put(registry, "tool", "2.0.0", engines={"node": ">=90"})
    with caplog.at_level(logging.WARNING, "hubsmith.lock"):
        solve("proxy")
    assert "images/tiny.toml: warning: the npm package tool@2.0.0 requires node: '>=90'" in caplog.text


def test_a_package_for_another_system_is_left_out(registry: Server) -> None:
    put(registry, "proxy", "1.0.0", optionalDependencies={"mac": "1.0.0", "here": "1.0.0"})
    put(registry, "mac", "1.0.0", os=["darwin"])
    put(registry, "here", "1.0.0", os=["!win32"], cpu=["x64", "arm64"])
    assert [one.name for one in solve("proxy").packages] == ["here", "proxy"]


def test_a_package_with_an_install_script_is_refused(registry: Server) -> None:
    put(registry, "native", "1.0.0", scripts={"install": "make"}, hasInstallScript=True)
    with pytest.raises(LockError, match=r"native 1\.0\.0 has an install script"):
        solve("native")


def test_what_does_not_exist_is_named(registry: Server) -> None:
    with pytest.raises(LockError, match=r"(?s)no solution for the tree 'tree'.*never-made"):
        solve("never-made")


def test_a_tarball_that_is_not_npms_own_is_refused(registry: Server) -> None:
    tarball = put(registry, "tool", "1.0.0")
    tarball.write_bytes(tarball.read_bytes() + b"!")
    with pytest.raises(FetchError, match=r"tool 1\.0\.0 \(npm\): the server's file is not the locked one \(sha512"):
        solve("tool")


@pytest.mark.parametrize(
    ("resolved", "registry", "path"),
    [
        ("https://r.example/two/-/two-1.0.0.tgz", "https://r.example/", "two/-/two-1.0.0.tgz"),
        ("https://r.example/api/npm/@a%2fb/-/b-1.tgz", "https://r.example/api/npm/", "@a/b/-/b-1.tgz"),
        ("https://elsewhere.example/two/-/two-1.0.0.tgz", "https://r.example/", "two/-/two-1.0.0.tgz"),
    ],
)
def test_paths_are_relative_to_the_registry(resolved: str, registry: str, path: str) -> None:
    assert npm.registry_path(resolved, registry) == path
