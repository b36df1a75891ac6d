"""Fetch from end to end: a signed archive and a project on this machine, the real apt and the real Nix store."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from local_archive import DebianArchive, Fault, Server, add_code, serving, small_debian, tree

from hubsmith.archives.artifacts import store_name
from hubsmith.archives.cache import Cache
from hubsmith.cli import main
from hubsmith.fetch import nixstore
from hubsmith.fetch.run import artifact_path
from hubsmith.lock import Lock, committed_path, locate
from hubsmith.lock.artifacts import artifacts_of
from hubsmith.lock.files import load


@dataclass
class Site:
    """A project with its locks, and the archive that they were made from."""

    root: Path
    archive: DebianArchive
    server: Server
    cache: Path

    def lock(self, name: str = "tiny") -> Lock:
        return load(committed_path(self.root, name))

    def locks(self) -> list[Lock]:
        return [self.lock("tools"), self.lock()]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    archive = small_debian(tmp_path / "archive")
    root = tree(tmp_path / "tree")
    add_code(root)
    monkeypatch.chdir(root)
    monkeypatch.setenv("HUBSMITH_CACHE", str(tmp_path / "cache"))
    with serving(archive.folder / "www") as server:
        for name, value in archive.environment(server).items():
            monkeypatch.setenv(name, value)
        assert main(["lock"]) == 0
        server.log.clear()
        yield Site(root, archive, server, tmp_path / "cache")
    archive.close()


def valid(locks: list[Lock]) -> bool:
    return not nixstore.invalid([artifact_path(artifact) for artifact in artifacts_of(locks)])


def supersede(site: Site) -> None:
    """What a security update does: the new version comes, the old one vanishes."""
    path = site.archive.add("libcurl", "1:8.14.1-2+deb13u1", suite="trixie-security")
    os.utime(path, (1_763_600_000, 1_763_600_000))  # 2025-11-20
    site.archive.remove("libcurl", "1:8.14.1-2")
    site.archive.publish(date=1_763_700_000)


def test_everything_ends_up_valid_in_the_store_and_a_second_run_asks_nobody(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fetch", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["artifacts"] == 6
    # The package of busybox came with the lock.
    assert (told["downloaded"], told["added"]) == (5, 7)
    assert valid(site.locks())
    site.server.log.clear()
    assert main(["fetch", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["downloaded"], told["added"], site.server.log) == (0, 0, [])


def test_busybox_is_one_executable_in_the_store(site: Site) -> None:
    assert main(["fetch"]) == 0
    box = site.lock("tools").busybox
    assert box
    path = Path(nixstore.fixed_path(box.nar_sha256, "busybox", recursive=True))
    assert [str(one.relative_to(path)) for one in sorted(path.rglob("*"))] == ["bin", "bin/busybox"]
    assert (path / "bin/busybox").read_bytes().startswith(b"#!/bin/sh\n")
    assert (path / "bin/busybox").stat().st_mode & 0o111


PROGRAM = [sys.executable, "-c", "import sys; from hubsmith.cli import main; sys.exit(main())"]


def test_two_fetches_at_once_download_each_file_once(site: Site) -> None:
    release = threading.Event()
    site.server.faults = lambda path, number: Fault(hold=release) if path.endswith(".deb") else None
    both = [subprocess.Popen([*PROGRAM, "fetch"], stderr=subprocess.PIPE, text=True) for _ in range(2)]
    threading.Timer(1.5, release.set).start()
    errors = [one.communicate(timeout=60)[1] for one in both]
    assert [one.returncode for one in both] == [0, 0], errors
    fetched = [path for path, _ in site.server.log if path.endswith(".deb")]
    assert len(fetched) == len(set(fetched)) == 5
    assert valid(site.locks())


def test_ctrl_c_ends_it_at_once_and_the_next_run_goes_on_where_it_stopped(site: Site) -> None:
    big = os.urandom(3_000_000)
    site.archive.add("curl", "9", Depends="libcurl", files={"usr/bin/curl": big})
    site.archive.publish()
    assert main(["lock", "--upgrade", "tiny"]) == 0
    site.server.log.clear()
    release = threading.Event()
    site.server.faults = lambda path, number: Fault(cut=2_000_000, hold=release) if "curl_9" in path else None
    fetch = subprocess.Popen([*PROGRAM, "fetch"], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 30
    while not any(part.stat().st_size > 1_000_000 for part in (site.cache / "artifacts/partial").glob("*.part")):
        assert time.monotonic() < deadline, "the transfer did not begin within 30 s"
        time.sleep(0.05)
    fetch.send_signal(signal.SIGINT)
    # The server still holds the connection open and says nothing.
    told = fetch.communicate(timeout=5)[1]
    assert fetch.returncode == 130, told
    assert "run it again to go on" in told
    assert "Traceback" not in told
    release.set()
    site.server.faults = lambda path, number: None
    site.server.log.clear()
    assert main(["fetch"]) == 0
    (ranged,) = site.server.gets("curl_9_amd64.deb")
    assert ranged
    assert int(re.findall(r"\d+", ranged)[0]) > 1_000_000


def test_damage_in_the_cache_is_mended(site: Site) -> None:
    deb = next(package for package in site.lock().debian if package.name == "curl")
    cache = Cache()
    cache.path(deb.sha256).write_bytes(b"?" * deb.size)
    assert main(["fetch"]) == 0
    assert valid(site.locks())
    assert cache.path(deb.sha256).read_bytes() != b"?" * deb.size


def test_a_gone_version_is_named_with_its_successor_and_its_date(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    supersede(site)
    assert main(["fetch"]) == 5
    told = capsys.readouterr().err
    assert "libcurl 1:8.14.1-2 (debian): superseded by 1:8.14.1-2+deb13u1 since 2025-11-20" in told
    assert "hint: hubsmith lock --upgrade" in told
    assert "1 artifact is gone" in told
    # All others came.
    curl = next(package for package in site.lock().debian if package.name == "curl")
    assert Cache().has(curl.sha256)


def test_a_package_that_left_the_archive_is_named(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.archive.remove("curl", "8.14.1-2")
    site.archive.publish(date=1_763_700_000)
    assert main(["fetch"]) == 5
    told = capsys.readouterr().err
    assert "curl 8.14.1-2 (debian): the archive of 2025-11-21 has no package of this name any more" in told


def test_a_mirror_that_is_incomplete_is_told_apart(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.server.faults = lambda path, number: Fault(status=404) if "/curl_" in path else None
    assert main(["fetch"]) == 5
    assert "the archive's index still lists it: the mirror is incomplete" in capsys.readouterr().err


def test_a_gone_version_is_solved_anew_apart_from_the_committed_lock(
    site: Site, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    committed = committed_path(site.root, "tiny").read_text()
    supersede(site)
    assert main(["fetch", "--refresh-if-gone", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["refreshed"] == ["tiny"]
    assert "WARNING: tiny: 1 artifact is gone from the archive; going on with the refreshed lock" in caplog.text
    assert "superseded by 1:8.14.1-2+deb13u1 since 2025-11-20" in caplog.text
    assert committed_path(site.root, "tiny").read_text() == committed
    choice = locate(site.root, "tiny", refreshed=True)
    assert choice.refreshed
    assert not locate(site.root, "tools", refreshed=True).refreshed
    versions = {package.name: package.version for package in load(choice.path).debian}
    assert versions["libcurl"] == "1:8.14.1-2+deb13u1"
    assert valid([load(choice.path)])
    # The manifest says so.
    assert main(["plan", "--refreshed", "--json", "tiny"]) == 0
    assert json.loads(capsys.readouterr().out)["lock"]["refreshed"] is True
    # Again: the refreshed lock is still good, nothing is solved.
    solved = load(choice.path)
    site.archive.add("libcurl", "1:8.14.1-2+deb13u2", suite="trixie-security")
    site.archive.publish(date=1_763_800_000)
    site.server.log.clear()
    assert main(["fetch", "--refresh-if-gone"]) == 0
    # What is in the store is not fetched again, nor are the indices.
    assert [path for path, _ in site.server.log] == ["/debian/pool/main/l/libcurl/libcurl_8.14.1-2_amd64.deb"]
    assert load(choice.path) == solved


def test_a_refreshed_lock_that_is_gone_too_is_solved_anew(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    supersede(site)
    assert main(["fetch", "--refresh-if-gone"]) == 0
    site.archive.add("curl", "9", Depends="libcurl")
    site.archive.add("libcurl", "1:9", suite="trixie-security")
    site.archive.remove("libcurl", "1:8.14.1-2+deb13u1")
    site.archive.publish(date=1_763_900_000)
    first = load(locate(site.root, "tiny", refreshed=True).path)
    libcurl = next(one for one in artifacts_of([first]) if one.name == "libcurl")
    subprocess.run(["nix-store", "--delete", artifact_path(libcurl)], check=True, capture_output=True)
    Cache().drop(libcurl.sha256)
    assert main(["fetch", "--refresh-if-gone"]) == 0
    assert "tiny: the refreshed lock is out of date too: 1 artifact is gone" in caplog.text
    versions = {one.name: one.version for one in load(locate(site.root, "tiny", refreshed=True).path).debian}
    assert (versions["curl"], versions["libcurl"]) == ("9", "1:9")


def test_a_committed_lock_that_can_be_fetched_wins_again(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    supersede(site)
    assert main(["fetch", "--refresh-if-gone"]) == 0
    assert main(["lock", "--upgrade", "tiny"]) == 0
    assert main(["fetch", "--refresh-if-gone", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["refreshed"] == []
    assert not locate(site.root, "tiny", refreshed=True).refreshed


def test_a_lock_that_does_not_match_is_never_refreshed(site: Site) -> None:
    module = site.root / "modules" / "one" / "module.toml"
    module.write_text(module.read_text().replace("curl", "ca-certificates"))
    assert main(["fetch", "--refresh-if-gone"]) == 4


def test_a_pack_feeds_another_machine_without_network(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["archive", "tiny", "-o", str(tmp_path / "one.tar")]) == 0
    assert main(["archive", "tiny", "-o", str(tmp_path / "two.tar")]) == 0
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()
    with tarfile.open(tmp_path / "one.tar") as tar:
        assert {member.mtime for member in tar} == {site.lock().source_date_epoch}
    monkeypatch.setenv("HUBSMITH_CACHE", str(tmp_path / "elsewhere"))
    site.server.log.clear()
    capsys.readouterr()
    assert main(["fetch", "--from", str(tmp_path / "one.tar"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["refreshed"] == []
    assert site.server.log == []
    assert all(Cache().has(artifact.sha256, artifact.size) for artifact in artifacts_of(site.locks()))


def test_a_pack_of_another_lock_is_kept_apart_from_the_committed_one(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["archive", "tiny", "-o", str(tmp_path / "old.tar")]) == 0
    old = committed_path(site.root, "tiny").read_text()
    supersede(site)
    assert main(["lock", "--upgrade"]) == 0
    capsys.readouterr()
    assert main(["fetch", "--from", str(tmp_path / "old.tar"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["refreshed"] == ["tools", "tiny"]
    assert locate(site.root, "tiny", refreshed=True).path.read_text() == old


def test_a_pack_that_lacks_an_artifact_asks_no_archive_for_it(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["archive", "tiny", "-o", str(tmp_path / "one.tar")]) == 0
    curl = next(package for package in site.lock().debian if package.name == "curl")
    with tarfile.open(tmp_path / "one.tar") as whole, tarfile.open(tmp_path / "less.tar", "w") as less:
        for member in whole:
            if curl.sha256 not in member.name:
                less.addfile(member, whole.extractfile(member))
    path = artifact_path(next(one for one in artifacts_of(site.locks()) if one.sha256 == curl.sha256))
    subprocess.run(["nix-store", "--delete", path], check=True, capture_output=True)
    monkeypatch.setenv("HUBSMITH_CACHE", str(tmp_path / "elsewhere"))
    site.server.log.clear()
    assert main(["fetch", "--from", str(tmp_path / "less.tar")]) == 5
    assert "1 artifact is missing, and no archive may be asked:\n  - curl 8.14.1-2" in capsys.readouterr().err
    assert site.server.log == []


def test_a_damaged_pack_is_refused(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pack = tmp_path / "one.tar"
    assert main(["archive", "tiny", "-o", str(pack)]) == 0
    with tarfile.open(pack) as tar:
        place = next(member.offset_data for member in tar if member.name.startswith("artifacts/"))
    with pack.open("r+b") as stream:
        stream.seek(place + 5)
        stream.write(b"!")
    monkeypatch.setenv("HUBSMITH_CACHE", str(tmp_path / "elsewhere"))
    assert main(["fetch", "--from", str(pack)]) == 5
    assert re.search(r"artifacts/[0-9a-f]{64} is damaged", capsys.readouterr().err)
    pack.write_bytes(b"no tar")
    assert main(["fetch", "--from", str(pack)]) == 5
    assert "not a pack" in capsys.readouterr().err


@pytest.mark.parametrize("recursive", [False, True])
def test_store_paths_are_those_of_nix(recursive: bool) -> None:
    sha256, name = "15c2030e0fb46580af4f1b4cc303f4bd26da781b004e99763bc9eff7cf8e19b8", "apt_3.0.4_amd64.deb"
    words = ["nix-store", "--print-fixed-path", *(["--recursive"] if recursive else []), "sha256", sha256, name]
    wanted = subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()
    assert nixstore.fixed_path(sha256, name, recursive=recursive) == wanted


@pytest.mark.parametrize(
    ("name", "clean"),
    [("libc6_2.41-12+deb13u1_amd64.deb", None), ("git_1%3a2.47_amd64.deb", "git_1_3a2.47_amd64.deb"),
     ("a~b.deb", "a_b.deb"), (".hidden", "_.hidden"), ("x!.whl", "x_.whl")],
)  # fmt: skip
def test_store_names_have_only_the_characters_that_the_store_allows(name: str, clean: str | None) -> None:
    assert store_name(name) == (clean or name)
