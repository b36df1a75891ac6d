"""Downloads from a server that misbehaves."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from local_archive import Fault, Server, serving

from hubsmith.archives import download as module
from hubsmith.archives.cache import Cache
from hubsmith.archives.download import Downloader, Gone, Interrupted
from hubsmith.errors import FetchError

CONTENT = bytes(range(256)) * 4096  # 1 MiB: several chunks
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(module, "BACK_OFF", 0.01)
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "file").write_bytes(CONTENT)
    with serving(tmp_path / "www") as served:
        yield served


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def get(server: Server, cache: Cache, sha256: str = SHA256, downloader: Downloader | None = None) -> bytes:
    downloader = downloader or Downloader(cache)
    downloader.get(requests.Session(), f"{server.address}/file", sha256=sha256, size=len(CONTENT), what="a file")
    return cache.path(sha256).read_bytes()


def test_a_file_comes_whole_and_counts_its_bytes_once(server: Server, cache: Cache) -> None:
    counts: list[int] = []
    assert get(server, cache, downloader=Downloader(cache, on_bytes=counts.append)) == CONTENT
    assert sum(counts) == len(CONTENT)
    assert list(cache.partial.iterdir()) == []


def test_a_cut_connection_is_resumed_where_it_stopped(server: Server, cache: Cache) -> None:
    server.faults = lambda path, number: Fault(cut=300_000) if number <= 2 else None
    counts: list[int] = []
    assert get(server, cache, downloader=Downloader(cache, on_bytes=counts.append)) == CONTENT
    # Bytes are kept in whole chunks.
    assert server.gets("file") == [None, f"bytes={module.CHUNK}-", f"bytes={2 * module.CHUNK}-"]
    assert sum(counts) == len(CONTENT)


def test_a_server_without_ranges_sends_all_again(server: Server, cache: Cache) -> None:
    server.ranges = False
    server.faults = lambda path, number: Fault(cut=300_000) if number == 1 else None
    assert get(server, cache) == CONTENT
    assert server.gets("file") == [None, f"bytes={module.CHUNK}-"]


def test_a_busy_server_is_asked_again(server: Server, cache: Cache) -> None:
    server.faults = lambda path, number: Fault(status=503) if number <= 2 else None
    assert get(server, cache) == CONTENT


def test_attempts_are_bounded(server: Server, cache: Cache) -> None:
    server.faults = lambda path, number: Fault(status=503)
    with pytest.raises(FetchError, match=r"a file: the server answers 503 .* \(5 attempts\)"):
        get(server, cache)
    assert len(server.log) == 5


def test_a_server_that_is_not_there_is_reported(cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BACK_OFF", 0.01)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving(tmp_path) as server:
        pass
    with pytest.raises(FetchError, match=r"Connection refused.* \(5 attempts\)"):
        get(server, cache)


@pytest.mark.parametrize("status", [404, 410])
def test_a_file_that_is_gone_is_not_asked_for_again(server: Server, cache: Cache, status: int) -> None:
    server.faults = lambda path, number: Fault(status=status)
    with pytest.raises(Gone):
        get(server, cache)
    assert len(server.log) == 1


def test_a_refusal_is_not_retried(server: Server, cache: Cache) -> None:
    server.faults = lambda path, number: Fault(status=403)
    with pytest.raises(FetchError, match="answers 403"):
        get(server, cache)
    assert len(server.log) == 1


def test_wrong_bytes_never_reach_the_cache(server: Server, cache: Cache) -> None:
    (server.folder / "file").write_bytes(CONTENT[:-1] + b"!")
    with pytest.raises(FetchError, match=f"not the locked one .* locked {SHA256}"):
        get(server, cache)
    assert not cache.has(SHA256)
    assert len(server.log) == 1


def test_more_bytes_than_locked_are_not_read_to_the_end(server: Server, cache: Cache) -> None:
    (server.folder / "file").write_bytes(CONTENT * 20)
    counts: list[int] = []
    with pytest.raises(FetchError, match="more than the 1048576 bytes"):
        get(server, cache, downloader=Downloader(cache, on_bytes=counts.append))
    assert sum(counts) == 0


def test_a_bad_part_of_an_earlier_run_is_fetched_anew(server: Server, cache: Cache) -> None:
    (cache.partial / f"{SHA256}.part").write_bytes(b"?" * 500_000)
    assert get(server, cache) == CONTENT
    assert server.gets("file") == ["bytes=500000-", None]


def test_a_part_that_is_complete_needs_no_server(server: Server, cache: Cache) -> None:
    (cache.partial / f"{SHA256}.part").write_bytes(CONTENT)
    assert get(server, cache) == CONTENT
    assert server.log == []


def test_a_checksum_of_another_kind_is_enough(server: Server, cache: Cache) -> None:
    sha512 = hashlib.sha512(CONTENT).hexdigest()
    found = Downloader(cache).get(requests.Session(), f"{server.address}/file", sha512=sha512, what="a file")
    assert found == SHA256
    assert cache.path(SHA256).read_bytes() == CONTENT
    with pytest.raises(FetchError, match="not the locked one"):
        Downloader(cache).get(requests.Session(), f"{server.address}/file", sha512="0" * 128, what="a file")


def test_two_fetchers_at_once_download_once(server: Server, cache: Cache) -> None:
    release = threading.Event()
    server.faults = lambda path, number: Fault(hold=release)
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(get, server, Cache(cache.folder.parent)) for _ in range(2)]
        threading.Timer(0.5, release.set).start()
        assert [one.result() for one in both] == [CONTENT, CONTENT]
    assert len(server.log) == 1
    assert list(cache.partial.iterdir()) == []


def test_a_stop_ends_a_transfer_whose_server_says_nothing(server: Server, cache: Cache) -> None:
    release = threading.Event()
    server.faults = lambda path, number: Fault(cut=module.CHUNK, hold=release)
    downloader = Downloader(cache)
    threading.Timer(0.5, downloader.cancel).start()
    began = time.monotonic()
    with pytest.raises(Interrupted):
        get(server, cache, downloader=downloader)
    assert time.monotonic() - began < 5
    release.set()


def test_a_stop_ends_a_transfer_and_keeps_what_came(server: Server, cache: Cache) -> None:
    downloader = Downloader(cache)
    downloader.on_bytes = lambda count: downloader.stop.set() if count > 0 else None
    with pytest.raises(Interrupted):
        get(server, cache, downloader=downloader)
    assert 0 < (cache.partial / f"{SHA256}.part").stat().st_size < len(CONTENT)
    assert get(server, cache) == CONTENT
    assert server.gets("file")[1] is not None
