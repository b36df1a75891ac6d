"""The configuration of this machine's own package clients, asked of the clients themselves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from local_archive import Fault, Server, serving, small_debian, wheel

from hubsmith.archives import machine
from hubsmith.archives.apt import apt_root
from hubsmith.archives.artifacts import Artifact
from hubsmith.archives.download import Gone
from hubsmith.archives.sources import DebianSource, PypiSource
from hubsmith.errors import LockError
from hubsmith.run import run


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    (tmp_path / "www").mkdir()
    with serving(tmp_path / "www") as served:
        yield served


def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Make this the machine's own apt configuration."""
    (tmp_path / "machine.conf").write_text(text)
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "machine.conf"))


@pytest.mark.parametrize("listed", [False, True])
def test_mirrors_come_from_the_configuration_of_apt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listed: bool
) -> None:
    archive = small_debian(tmp_path / "archive")
    # apt does not speak of an index that is empty.
    archive.add("libcurl", "1:8.14.1-2+deb13u1", suite="trixie-security")
    archive.publish()
    archive.close()
    with serving(archive.folder / "www") as server:
        for name, value in archive.environment(server).items():
            monkeypatch.setenv(name, value)
        with apt_root("trixie") as root:
            for name in ("HUBSMITH_DEBIAN_MIRROR", "HUBSMITH_DEBIAN_SECURITY_MIRROR"):
                monkeypatch.delenv(name)
            if listed:
                # As in Debian's cloud images: the sources name a file that lists the mirrors.
                list_file = tmp_path / "debian.list"
                list_file.write_text(f"# ours\n{server.address}/debian\tpriority:1\n")
                sources = root.folder / "sources.list"
                text = sources.read_text().replace(f"{server.address}/debian ", f"mirror+file:{list_file} ")
                sources.write_text(text)
                run(["apt-get", "update"], env=root.env)
            monkeypatch.setenv("APT_CONFIG", root.env["APT_CONFIG"])
            assert machine.debian_mirrors() == {
                "debian": f"{server.address}/debian",
                "debian-security": f"{server.address}/debian-security",
            }


def test_a_machine_without_a_mirror_is_told_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    apt(tmp_path, monkeypatch, f'Dir::Etc "{tmp_path}/empty";\nDir::State "{tmp_path}/empty";\n')
    with pytest.raises(LockError, match=r"has no mirror of the archive 'debian'") as caught:
        machine.debian_mirrors()
    assert "set HUBSMITH_DEBIAN_MIRROR" in str(caught.value.hint)


def test_proxies_come_from_the_configuration_of_apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HUBSMITH_DEBIAN_MIRROR", "HUBSMITH_DEBIAN_SECURITY_MIRROR"):
        monkeypatch.setenv(name, "http://mirror.example")
    apt(tmp_path, monkeypatch, 'Acquire::http::Proxy "http://127.0.0.1:3142";\nAcquire::https::Proxy "DIRECT";\n')
    assert machine.apt_proxy("http") == "http://127.0.0.1:3142"
    assert machine.apt_proxy("https") == ""
    assert 'Acquire::http::Proxy "http://127.0.0.1:3142";' in machine.machine_acquire()
    source = DebianSource(1)
    assert source.session.proxies["http"] == "http://127.0.0.1:3142"
    assert not source.session.trust_env


def test_a_proxy_of_apt_is_really_used(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HUBSMITH_DEBIAN_MIRROR", "HUBSMITH_DEBIAN_SECURITY_MIRROR"):
        monkeypatch.setenv(name, "http://mirror.invalid/debian")
    apt(tmp_path, monkeypatch, f'Acquire::http::Proxy "{server.address}";\n')
    (server.folder / "debian").mkdir()
    (server.folder / "debian" / "x.deb").write_text("through the proxy")
    source = DebianSource(1)
    address = source.address(Artifact("debian", "x", "1", "x.deb", 1, "0" * 64))
    assert source.session.get(address, timeout=10).text == "through the proxy"


def test_the_index_of_pip_is_what_pip_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HUBSMITH_PYPI_INDEX", raising=False)
    monkeypatch.setenv("PIP_INDEX_URL", "https://index.example/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "https://more.example/simple")
    machine._pip_options.cache_clear()
    config = machine.pip_config()
    assert (config.index_url, config.extra_index_urls) == (
        "https://index.example/simple",
        ("https://more.example/simple",),
    )
    monkeypatch.setenv("HUBSMITH_PYPI_INDEX", "https://own.example/simple")
    config = machine.pip_config()
    assert (config.index_url, config.extra_index_urls) == ("https://own.example/simple", ())
    machine._pip_options.cache_clear()


def test_the_registry_of_npm_is_what_npm_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HUBSMITH_NPM_REGISTRY", raising=False)
    monkeypatch.setenv("npm_config_registry", "https://registry.example/npm")
    machine._npm_options.cache_clear()
    assert machine.npm_config().registry == "https://registry.example/npm/"
    machine._npm_options.cache_clear()


def test_an_index_that_is_busy_for_a_moment_is_asked_again(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUBSMITH_PYPI_INDEX", f"{server.address}/simple/")
    path = wheel(server.folder, "alpha", "1.0")
    server.faults = lambda path, number: Fault(status=503) if number == 1 else None
    source = PypiSource(1)
    artifact = Artifact("pypi", "alpha", "1.0", path.name, 1, "0" * 64)
    assert source.address(artifact) == f"{server.address}/simple/alpha/{path.name}"
    path.unlink()
    (path.parent / "index.html").write_text("<!DOCTYPE html><html><body></body></html>")
    with pytest.raises(Gone):
        source.address(artifact)
