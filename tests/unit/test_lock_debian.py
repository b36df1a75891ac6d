"""Debian packages solved by the real apt from a signed archive on this machine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from local_archive import DebianArchive, Server, serving, small_debian

from hubsmith.archives.apt import apt_root
from hubsmith.errors import LockError
from hubsmith.lock.debian import Solver
from hubsmith.lock.models import DebianPackage


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[DebianArchive]:
    made = small_debian(tmp_path / "archive")
    yield made
    made.close()


@pytest.fixture
def server(archive: DebianArchive, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with serving(archive.folder / "www") as served:
        for name, value in archive.environment(served).items():
            monkeypatch.setenv(name, value)
        yield served


def solve(*names: str, bootable: bool = True) -> dict[str, DebianPackage]:
    with apt_root("trixie") as apt:
        return {one.name: one for one in Solver(apt).solve(names, bootable=bootable, where="images/tiny.toml")}


def test_an_image_holds_what_is_asked_for_its_dependencies_and_the_essential(server: Server) -> None:
    assert sorted(solve("curl")) == ["base-files", "curl", "libcurl"]


def test_the_toolchain_holds_only_what_is_asked_for(server: Server) -> None:
    assert sorted(solve("curl", bootable=False)) == ["curl", "libcurl"]


def test_a_package_is_written_down_with_its_path_size_and_checksum(server: Server, archive: DebianArchive) -> None:
    package = solve("libcurl")["libcurl"]
    file = archive.folder / "www" / "debian" / package.path
    assert package.version == "1:8.14.1-2"
    assert package.path == "pool/main/l/libcurl/libcurl_8.14.1-2_amd64.deb"
    assert package.size == file.stat().st_size
    assert package.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert (package.archive, package.arch, package.installed_size) == ("debian", "amd64", 12288)
    assert solve("curl")["base-files"].essential
    assert not package.essential


def test_security_and_updates_win(server: Server, archive: DebianArchive) -> None:
    archive.add("libcurl", "1:8.14.1-2+deb13u1", suite="trixie-security")
    archive.add("curl", "8.14.1-3", suite="trixie-updates", Depends="libcurl")
    archive.publish()
    found = solve("curl")
    assert (found["libcurl"].version, found["libcurl"].archive) == ("1:8.14.1-2+deb13u1", "debian-security")
    assert (found["curl"].version, found["curl"].archive) == ("8.14.1-3", "debian")


def test_a_package_that_does_not_exist_is_named_with_the_nearest(server: Server) -> None:
    with pytest.raises(LockError, match=r"no such package:\n  - crul; did you mean 'curl'\?") as caught:
        solve("crul", "apt")
    assert caught.value.where == "images/tiny.toml"


def test_no_solution_tells_what_apt_tells(server: Server, archive: DebianArchive) -> None:
    archive.add("broken", "1", Depends="never-made")
    archive.publish()
    with pytest.raises(LockError, match=r"(?s)apt finds no solution.*broken : Depends: never-made"):
        solve("broken")


def test_the_epoch_is_the_newest_date_of_the_archives(server: Server, archive: DebianArchive) -> None:
    archive.publish(date=1_750_000_000)
    with apt_root("trixie") as apt:
        assert apt.date() == 1_750_003_600


def test_another_key_is_refused(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = DebianArchive(tmp_path / "other")
    other.close()
    monkeypatch.setenv("HUBSMITH_DEBIAN_KEYRING", str(other.keyring))
    with pytest.raises(LockError, match="signature is not good"):
        solve("curl")


def test_an_unsigned_archive_is_refused(server: Server, archive: DebianArchive) -> None:
    archive.publish(sign=False)
    with pytest.raises(LockError, match="signature is not good"):
        solve("curl")


def test_an_index_that_was_changed_after_it_was_signed_is_refused(server: Server, archive: DebianArchive) -> None:
    index = archive.folder / "www/debian/dists/trixie/main/binary-amd64/Packages"
    index.write_text(index.read_text().replace("Package: curl\n", "Package: curl\nPre-Depends: evil\n"))
    with pytest.raises(LockError, match=r"(?s)cannot be fetched.*(Hash Sum|unexpected size)"):
        solve("curl")


def test_a_release_file_that_was_changed_after_it_was_signed_is_refused(server: Server, archive: DebianArchive) -> None:
    signed = archive.folder / "www/debian/dists/trixie/InRelease"
    signed.write_text(signed.read_text().replace("Codename: trixie\n", "Codename: trixie\nDescription: evil\n"))
    with pytest.raises(LockError, match="signature is not good"):
        solve("curl")


def test_a_keyring_that_is_not_there_is_named(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUBSMITH_DEBIAN_KEYRING", "/nonexistent.gpg")
    with pytest.raises(LockError, match=r"/nonexistent.gpg: the keyring"):
        solve("curl")
