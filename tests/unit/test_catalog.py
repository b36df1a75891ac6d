"""The catalog on this computer, and what is the same for every catalog; clouds are in ``tests/cloud``."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from test_release import FIRST, SECOND, build, key, released, root  # noqa: F401  (fixtures)

from hubsmith.catalog import publish as steps
from hubsmith.catalog.base import CatalogError, Entry, Sent, chosen
from hubsmith.catalog.local import LocalCatalog
from hubsmith.cli import main
from hubsmith.errors import HubsmithError
from hubsmith.release.folder import Release


@pytest.fixture
def catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalCatalog:
    monkeypatch.setenv("HUBSMITH_STATE", str(tmp_path / "state"))
    return LocalCatalog()


@pytest.fixture
def release(root: Path, key: Path) -> Release:  # noqa: F811
    return released(root, key, version="1")


def publish(catalog: LocalCatalog, release: Release, sent: Sent = lambda count: None) -> tuple[Entry, bool]:
    def sending(size: int) -> AbstractContextManager[Sent]:
        return nullcontext(sent)

    keys = release.folder.parents[3] / "release_key.pub"
    return steps.publish(
        release,
        catalog,
        keys=keys,
        disk_format="qcow2",
        visibility="community",
        progress=lambda line: None,
        sending=sending,
    )


def test_published_once_and_again(catalog: LocalCatalog, release: Release) -> None:
    sent: list[int] = []
    entry, done = publish(catalog, release, sent.append)
    assert (done, entry.state, entry.visibility, entry.version) == (True, "active", "community", "1")
    assert catalog.disk(entry).read_bytes() == release.qcow2.read_bytes()
    assert sum(sent) == entry.size == release.qcow2.stat().st_size
    assert publish(catalog, release) == (entry, False)
    assert catalog.entries() == [entry]


def test_what_was_interrupted_is_not_offered_and_goes_on(catalog: LocalCatalog, release: Release) -> None:
    def interrupted(count: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        publish(catalog, release, interrupted)
    (entry,) = catalog.entries()
    assert entry.state == "uploading"
    with pytest.raises(CatalogError, match="no image 'tiny'"):
        chosen(catalog.entries(), "tiny")
    assert publish(catalog, release)[0].state == "active"
    assert len(catalog.entries()) == 1


class BadDisk(LocalCatalog):
    """A catalog whose disk does not keep what was written."""

    def send(self, entry: Entry, *more: Any) -> None:
        super().send(entry, *more)
        with self.disk(entry).open("ab") as disk:
            disk.write(b"\0")


def test_a_copy_with_other_bytes_is_not_offered(catalog: LocalCatalog, release: Release) -> None:
    with pytest.raises(CatalogError, match="the copy has another checksum"):
        publish(BadDisk(), release)
    assert [one.state for one in catalog.entries()] == ["uploading"]


def test_another_image_under_the_same_version(catalog: LocalCatalog, release: Release, root: Path, key: Path) -> None:  # noqa: F811
    publish(catalog, release)
    release.folder.rename(release.folder.with_name("away"))
    build(root, SECOND, b"two")
    with pytest.raises(CatalogError, match="another image is already published as tiny 1"):
        publish(catalog, released(root, key, version="1"))


@pytest.mark.parametrize("report", [{"green": False}, {"sha256": "ab" * 32}])
def test_what_is_not_proven_is_refused(catalog: LocalCatalog, release: Release, report: dict[str, Any]) -> None:
    file = release.folder / "test-report.json"
    file.write_text(json.dumps({**release.report, **report}))
    with pytest.raises(HubsmithError, match="cannot publish") as caught:
        publish(catalog, release)
    assert caught.value.hint == "hubsmith test tiny"
    assert catalog.entries() == []


def test_the_newest_stay_and_what_is_in_use_stays(catalog: LocalCatalog, root: Path, key: Path, tmp_path: Path) -> None:  # noqa: F811
    entries = []
    for number in range(1, 7):
        build(root, FIRST, str(number).encode())
        entries.append(publish(catalog, released(root, key, version=str(number)))[0])
    user = tmp_path / "state/deployments/class" / f"{entries[0].sha256}.qcow2"
    user.parent.mkdir(parents=True)
    user.touch()
    told: list[str] = []
    steps.prune(catalog, "tiny", 2, told.append)
    assert {one.version: one.state for one in catalog.entries()} == {
        "1": "hidden", "3": "hidden", "4": "hidden", "5": "active", "6": "active",
    }  # fmt: skip
    assert "tiny 1: not deleted, in use by deployment class" in told
    assert chosen(catalog.entries(), "tiny").version == "6"
    with pytest.raises(CatalogError, match="in use by deployment class"):
        steps.retire(catalog, chosen(catalog.entries(), "tiny@1"), delete=True)


def test_the_verbs(
    catalog: LocalCatalog, release: Release, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(root)
    monkeypatch.setenv("HUBSMITH_CONFIG", str(tmp_path))
    assert main(["publish", "tiny-1", "--json"]) == 0
    number = json.loads(capsys.readouterr().out)["id"]
    assert main(["publish", "tiny-1"]) == 0
    told = capsys.readouterr()
    assert (told.out.strip(), "is there already" in told.err) == (number, True)
    assert main(["catalog", "list"]) == 0
    assert number in capsys.readouterr().out
    assert main(["catalog", "retire", "tiny"]) == 0
    assert "tiny 1: hidden" in capsys.readouterr().out
    assert main(["catalog", "retire", "tiny@1", "--delete"]) == 0
    assert main(["catalog", "show", "tiny@1"]) == 9
    assert "no image 'tiny@1' in the catalog" in capsys.readouterr().err
    assert main(["publish", "tiny-2"]) == 1
    assert "no release 'tiny-2'" in capsys.readouterr().err
