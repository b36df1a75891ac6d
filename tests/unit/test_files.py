"""Files are written as a whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hubsmith import files


@pytest.mark.parametrize(("mode", "durable"), [(0o644, False), (0o600, True)])
def test_a_file_is_replaced_with_its_mode(tmp_path: Path, mode: int, durable: bool) -> None:
    path = tmp_path / "folder" / "file"
    for text in ("old", "new: ü"):
        files.write(path, text, mode=mode, durable=durable)
    assert path.read_text(encoding="utf-8") == "new: ü"
    assert path.stat().st_mode & 0o7777 == mode
    assert list(path.parent.iterdir()) == [path]


def test_what_fails_half_way_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    files.write(path, "old")
    with pytest.raises(KeyboardInterrupt), files.replacing(path) as stream:
        stream.write(b"half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_one_text_per_value(tmp_path: Path) -> None:
    assert (
        files.canonical({"b": 1, "a": ["ü"]})
        == files.canonical({"a": ["ü"], "b": 1})
        == ('{\n "a": [\n  "ü"\n ],\n "b": 1\n}\n')
    )
    files.write(tmp_path / "file", files.canonical({}))
    assert files.sha256(tmp_path / "file") == files.canonical_sha256({})


def test_a_durable_file_is_on_the_disk_before_and_its_name_after_it_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, synced = tmp_path / "x.json", list[tuple[str, bool]]()
    fsync = os.fsync

    def note(handle: int) -> None:
        synced.append((str(Path(f"/proc/self/fd/{handle}").readlink()), path.exists()))
        fsync(handle)

    monkeypatch.setattr("os.fsync", note)
    files.write(path, "x")
    assert not synced
    path.unlink()
    files.write(path, "x", durable=True)
    (partial, early), *rest = synced
    assert partial.startswith(f"{tmp_path}/.x.json.")
    assert not early
    assert rest == [(str(tmp_path), True)]
