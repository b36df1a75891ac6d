"""Releases: what is refused, what is in one, and that nothing changed goes unnoticed; with real keys and real disks."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from local_archive import TINY_MODULE, add_code, tree

from hubsmith import files
from hubsmith.cli import main
from hubsmith.errors import HubsmithError
from hubsmith.lock import DebianPackage, Lock, committed_path, inputs_of, save
from hubsmith.plan import dumps
from hubsmith.plan.images import manifest_of
from hubsmith.release.folder import Release, find, releases
from hubsmith.release.make import make, place_of, source_of
from hubsmith.release.verify import verify
from hubsmith.run import run

SHA = "ab" * 32
FIRST = {"curl": ("8.14.1-2", "debian"), "openssl": ("3.5.1-1", "debian"), "wget": ("1.25", "debian")}
SECOND = {"curl": ("8.14.1-3", "debian"), "openssl": ("3.5.1-1+deb13u1", "debian-security"), "zip": ("3.0", "debian")}


@pytest.fixture
def key(tmp_path: Path) -> Path:
    key = tmp_path / "release_key"
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key])
    return key


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tree(tmp_path / "tree")
    add_code(root)
    build(root, FIRST, b"one")
    return root


def build(
    root: Path, packages: dict[str, tuple[str, str]], content: bytes, report: dict[str, Any] | None = None
) -> None:
    """What a build and its tests put out, of a disk with some bytes in it."""
    lock = Lock(
        schema=1, image="tiny", inputs_sha256=inputs_of(root, "tiny").sha256, source_date_epoch=1_700_000_000,
        debian=[
            DebianPackage(
                name=name, version=version, arch="amd64", archive=archive, path=f"pool/{name}.deb", size=10, sha256=SHA,
                installed_size=5000, essential=False, priority="optional",
            )
            for name, (version, archive) in sorted(packages.items())
        ],
        python={}, npm={},
    )  # fmt: skip
    save(lock, committed_path(root, "tiny"))
    out = root / "out" / "tiny"
    out.mkdir(parents=True, exist_ok=True)
    raw = root / "disk.raw"
    raw.write_bytes(content.ljust(1 << 20, b"\0"))
    run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, out / "tiny.qcow2"])
    (out / "manifest.json").write_text(dumps(manifest_of(root, "tiny")))
    (out / "sbom.cdx.json").write_text("{}")
    sums = {name: files.sha256(out / name) for name in ("tiny.qcow2", "manifest.json", "sbom.cdx.json")}
    (out / "SHA256SUMS").write_text("".join(f"{checksum}  {name}\n" for name, checksum in sums.items()))
    told = {"sha256": sums["tiny.qcow2"], "green": True, "counts": {"passed": 7, "checks": 94, "checks_skipped": 2}}
    (out / "test-report.json").write_text(json.dumps(told if report is None else {**told, **report}))


def released(root: Path, key: Path, **more: Any) -> Release:
    return make(root, "tiny", key=key, progress=lambda line: None, **more)


def wrong(release: Release, key: Path) -> list[str]:
    return [one.what for one in verify(release.folder, key.with_name("release_key.pub")) if one.why]


def test_a_release_is_whole_and_can_be_checked_with_common_tools(root: Path, key: Path, tmp_path: Path) -> None:
    release = released(root, key)
    assert release.folder.parent == place_of(root)
    assert release.folder.name == f"tiny-2023.11.14-{release.about.manifest_sha256[:8]}"
    assert {path.name for path in release.folder.iterdir()} == {
        "SHA256SUMS", "SHA256SUMS.sig", "manifest.json", "notes.md", "release.json", "sbom.cdx.json",
        "test-report.json", "tiny.qcow2", "tiny.raw",
    }  # fmt: skip
    assert wrong(release, key) == []
    # As docs/operators/release.md says.
    run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=release.folder)
    allowed = tmp_path / "allowed"
    allowed.write_text(f"release {key.with_name('release_key.pub').read_text()}")
    told = run(
        ["ssh-keygen", "-Y", "verify", "-f", allowed, "-I", "release", "-n", "hubsmith-release",
         "-s", release.folder / "SHA256SUMS.sig"],
        stdin=(release.folder / "SHA256SUMS").read_text(),
    )  # fmt: skip
    assert "Good" in told.stdout


def test_made_again_it_is_the_same_one(root: Path, key: Path) -> None:
    first = released(root, key)
    assert released(root, key) == first
    assert releases(place_of(root), "tiny") == [first]


def test_another_image_does_not_take_a_version(root: Path, key: Path) -> None:
    released(root, key, version="1")
    build(root, SECOND, b"two")
    with pytest.raises(HubsmithError, match="another image was released with this version"):
        released(root, key, version="1")


@pytest.mark.parametrize("version", ["", "../up", "a b", "-1", "x" * 65])
def test_a_version_is_a_part_of_names(root: Path, key: Path, version: str) -> None:
    with pytest.raises(HubsmithError, match="invalid version"):
        released(root, key, version=version)


@pytest.mark.parametrize(
    ("report", "why"),
    [
        ({"green": False}, "the report is not green"), ({"sha256": SHA}, "the report is about other bytes"),
        ({"green": "yes"}, "the report is not green"),
    ],
)  # fmt: skip
def test_what_is_not_proven_is_not_released(root: Path, key: Path, report: dict[str, Any], why: str) -> None:
    build(root, FIRST, b"one", report)
    with pytest.raises(HubsmithError, match=why) as caught:
        released(root, key)
    assert caught.value.hint == "hubsmith test tiny"
    assert not place_of(root).exists()


@pytest.mark.parametrize("damage", [None, b"", b"[]", b"\xff"])
def test_no_report_is_no_proof(root: Path, key: Path, damage: bytes | None) -> None:
    report = root / "out/tiny/test-report.json"
    report.unlink() if damage is None else report.write_bytes(damage)
    with pytest.raises(HubsmithError, match="there is no test report"):
        released(root, key)


def test_what_the_tree_does_not_describe_is_not_released(root: Path, key: Path) -> None:
    (root / "modules/one/module.toml").write_text(TINY_MODULE.replace("One", "Two"))
    lock = committed_path(root, "tiny")
    lock.write_text(
        lock.read_text().replace(json.loads(lock.read_text())["inputs_sha256"], inputs_of(root, "tiny").sha256)
    )
    with pytest.raises(HubsmithError, match="not built from this tree"):
        released(root, key)


def test_bytes_that_changed_after_the_build_are_not_released(root: Path, key: Path) -> None:
    with (root / "out/tiny/tiny.qcow2").open("ab") as disk:
        disk.write(b"\0")
    with pytest.raises(HubsmithError, match="changed after the build"):
        released(root, key)


def test_without_a_key_nothing_is_left_half_made(root: Path, tmp_path: Path) -> None:
    with pytest.raises(HubsmithError, match="the signing key is missing") as caught:
        released(root, tmp_path / "none")
    assert "ssh-keygen -t ed25519" in str(caught.value.hint)
    assert list(place_of(root).iterdir()) == []


def test_the_rest_of_an_interrupted_one_is_in_nobodys_way(root: Path, key: Path) -> None:
    (place_of(root) / ".tiny-1.partial").mkdir(parents=True)
    (place_of(root) / ".tiny-1.partial" / "release.json").write_text("{")
    release = released(root, key, version="1")
    assert wrong(release, key) == []
    assert [path.name for path in place_of(root).iterdir()] == ["tiny-1"]


def test_notes_tell_what_changed_and_what_is_security(root: Path, key: Path) -> None:
    first = released(root, key)
    assert "the first release of this image" in (first.folder / "notes.md").read_text()
    (root / "modules/one/module.toml").write_text(TINY_MODULE + '[[ports]]\nnumber = 443\naudience = "all"\n')
    build(root, SECOND, b"two")
    second = released(root, key)
    assert second.about.previous == first.about.version
    text = (second.folder / "notes.md").read_text()
    sections = {part.partition("\n")[0]: part.partition("\n")[2].strip() for part in text.split("\n## ")[1:]}
    assert sections["Security updates"] == "- openssl 3.5.1-1 → 3.5.1-1+deb13u1"
    assert sections["Updated"] == "- curl 8.14.1-2 → 8.14.1-3"
    assert (sections["Added"], sections["Removed"]) == ("- zip 3.0", "- wget 1.25")
    assert "Changed modules: one." in sections["Configuration"]
    assert "+ port 443/tcp" in sections["Configuration"]


@pytest.mark.parametrize(
    ("file", "told"),
    [
        ("tiny.qcow2", ["tiny.qcow2"]),
        ("tiny.raw", ["tiny.raw", "the raw disk holds what the tested one does"]), ("notes.md", ["notes.md"]),
        ("manifest.json", ["manifest.json", "the manifest is the one that was released"]),
        ("test-report.json", ["test-report.json", "tests"]), ("SHA256SUMS.sig", ["signature"]),
    ],
)  # fmt: skip
def test_a_changed_file_is_noticed(root: Path, key: Path, file: str, told: list[str]) -> None:
    release = released(root, key)
    content = bytearray((release.folder / file).read_bytes())
    content[len(content) // 2] ^= 1
    (release.folder / file).write_bytes(content)
    assert wrong(release, key) == told


def test_a_missing_and_a_foreign_file_are_noticed(root: Path, key: Path) -> None:
    release = released(root, key)
    (release.folder / "sbom.cdx.json").rename(release.folder / "other.json")
    assert wrong(release, key) == ["other.json", "sbom.cdx.json"]


def test_only_known_keys_count_and_only_for_releases(root: Path, key: Path, tmp_path: Path) -> None:
    release = released(root, key)
    other = tmp_path / "other"
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other])
    assert [one.what for one in verify(release.folder, other.with_name("other.pub")) if one.why] == ["signature"]
    both = tmp_path / "both"
    both.write_text("# two people\n" + "".join(path.read_text() for path in tmp_path.glob("*.pub")))
    assert [one.why for one in verify(release.folder, both) if one.why] == []
    (release.folder / "SHA256SUMS.sig").unlink()
    run(["ssh-keygen", "-q", "-Y", "sign", "-f", key, "-n", "file", release.folder / "SHA256SUMS"])
    assert wrong(release, key) == ["signature"]


def test_whoever_changes_all_checksums_lacks_the_key(root: Path, key: Path) -> None:
    release = released(root, key)
    sums = release.folder / "SHA256SUMS"
    (release.folder / "notes.md").write_text("All is well.")
    lines = {
        name: files.sha256(release.folder / name) for name in (one.split()[1] for one in sums.read_text().splitlines())
    }
    sums.write_text("".join(f"{checksum}  {name}\n" for name, checksum in lines.items()))
    assert wrong(release, key) == ["signature"]


def test_the_verbs(
    root: Path, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(root)
    monkeypatch.setenv("HUBSMITH_CONFIG", str(tmp_path))
    assert main(["release", "tiny", "--version", "1", "--json"]) == 0
    told = capsys.readouterr()
    folder = Path(json.loads(told.out)["tiny"])
    assert "release tiny: writing the raw disk" in told.err
    assert main(["verify", str(folder)]) == 0
    assert "good   signed with ED25519 key SHA256:" in capsys.readouterr().out
    (folder / "notes.md").unlink()
    assert main(["verify", str(folder)]) == 7
    told = capsys.readouterr()
    assert "WRONG  notes.md: missing" in told.out
    assert "not to be trusted: notes.md" in told.err
    assert main(["verify", str(root / "out/tiny")]) == 1
    assert "no release" in capsys.readouterr().err


def test_a_release_is_found_by_its_folder_or_its_name(root: Path, key: Path) -> None:
    release = released(root, key, version="1")
    assert find(place_of(root), "tiny-1") == find(place_of(root), str(release.folder)) == release
    with pytest.raises(HubsmithError, match=r"no release 'tiny-2'.*'tiny-1'"):
        find(place_of(root), "tiny-2")


def test_the_source_is_a_commit_or_nothing(root: Path) -> None:
    assert source_of(root) == ""
    shutil.rmtree(root / "out")
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "x"]):
        run([*git, *words], cwd=root)
    commit = source_of(root)
    assert len(commit) == 40
    (root / "new").touch()
    assert source_of(root) == f"{commit}+changes"
