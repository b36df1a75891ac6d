"""Roots as streams of tars: what is joined, what is put over it, and what is refused."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from hubsmith.build import rules, tree
from hubsmith.build.tree import Addition, Entries, Join, Overlay

EPOCH = 1_700_000_000
Row = tuple[str, bytes, dict[str, Any]]


def directory(name: str, **more: Any) -> Row:
    return name, b"", {"type": tarfile.DIRTYPE, "mode": 0o755, **more}


def file(name: str, content: bytes = b"x", **more: Any) -> Row:
    return name, content, {"size": len(content), **more}


def pack(path: Path, *rows: Row) -> Path:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, content, more in rows:
            member = tarfile.TarInfo(name)
            for key, value in more.items():
                setattr(member, key, value)
            tar.addfile(member, io.BytesIO(content))
    return path


def members(raw: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        return {member.name: member for member in tar}


def join(*tars: Path) -> tuple[Join, bytes]:
    out = io.BytesIO()
    joined = Join(EPOCH, rules.image_path, rules.wanted_early)
    joined.write(tars, out)
    return joined, out.getvalue()


def test_layers_are_joined_by_the_rules(tmp_path: Path) -> None:
    one = pack(
        tmp_path / "one.tar", directory("."), directory("./usr"), directory("./var", mtime=EPOCH + 5),
        file("./usr/a", b"a", mtime=EPOCH + 5, uid=7, mode=0o4750, uname="x"), file("./var/log/gone"),
        file("./var/lib/x", mtime=3), file("./etc/passwd", b"root:x:0"),
        ("./usr/b", b"", {"type": tarfile.LNKTYPE, "linkname": "./usr/a"}),
    )  # fmt: skip
    two = pack(tmp_path / "two.tar", directory("usr"), file("usr/c.pyc", b"\xf3\r\r\n\3\0\0\0hash"))
    joined, raw = join(one, two)
    there = members(raw)
    assert set(there) == {".", "./var", "./usr", "./usr/a", "./usr/b", "./usr/c.pyc", "./etc/passwd",
                          "./usr/share/factory/var/lib/x"}  # fmt: skip
    assert (there["./usr/a"].mtime, there["./usr/share/factory/var/lib/x"].mtime) == (EPOCH, 3)
    assert joined.entries["usr/a"] == {
        "type": "file", "mode": "4750", "owner": "7:0", "size": 1, "sha256": hashlib.sha256(b"a").hexdigest(),
    }  # fmt: skip
    assert joined.entries["usr/b"]["target"] == "./usr/a"
    assert joined.kept == {"etc/passwd": (None, "root:x:0")}
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        compiled = tar.extractfile("./usr/c.pyc")
        assert compiled is not None and compiled.read()[4:8] == b"\1\0\0\0"


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([file("./usr/a"), file("./usr/a")], "two layers hold /usr/a"),
        ([file("./var/log/a"), ("./b", b"", {"type": tarfile.LNKTYPE, "linkname": "./var/log/a"})], "is dropped"),
        ([directory("./d", pax_headers={"SCHILY.xattr.user.x": "1"})], "extended attributes"),
    ],
)
def test_what_cannot_be_joined_is_refused(rows: list[Row], why: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=why):
        join(pack(tmp_path / "a.tar", *rows))


BELOW: Entries = {
    "": {"type": "dir", "mode": "0755", "owner": "0:0"},
    "etc": {"type": "dir", "mode": "0750", "owner": "3:4"},
    "etc/a": {"type": "file", "mode": "0644", "owner": "0:0", "size": 1, "sha256": "x"},
    "etc/link": {"type": "link", "mode": "0777", "owner": "0:0", "target": "a"},
    "etc/again": {"type": "hard", "mode": "0644", "owner": "0:0", "target": "./etc/twice"},
    "etc/twice": {"type": "file", "mode": "0644", "owner": "0:0", "size": 1, "sha256": "y"},
}


def over(*additions: Addition, removed: frozenset[str] = frozenset()) -> tuple[Entries, dict[str, tarfile.TarInfo]]:
    out = io.BytesIO()
    overlay = Overlay(BELOW, EPOCH, removed=set(removed))
    overlay.add(*additions)
    entries = overlay.write(out)
    return entries, members(out.getvalue())


def test_folders_above_a_change_keep_their_owners_and_modes() -> None:
    entries, there = over(Addition("etc/new/file", 0o640, b"hello", uid=9))
    assert list(there) == [".", "./etc", "./etc/new", "./etc/new/file"]
    assert (there["./etc"].mode, there["./etc"].uid, there["./etc"].gid) == (0o750, 3, 4)
    assert entries["etc/new"] == {"type": "dir", "mode": "0755", "owner": "0:0"}
    assert entries["etc/new/file"]["owner"] == "9:0"
    assert {path: entries[path] for path in BELOW} == BELOW


def test_what_is_removed_is_whited_out() -> None:
    entries, there = over(removed=frozenset({"etc/link"}))
    assert list(there) == [".", "./etc", "./etc/.wh.link"]
    assert entries == {path: entry for path, entry in BELOW.items() if path != "etc/link"}


def test_what_is_removed_and_added_is_added() -> None:
    entries, there = over(Addition("etc/link", 0o777, link="b"), removed=frozenset({"etc/link"}))
    assert there["./etc/link"].linkname == entries["etc/link"]["target"] == "b"


@pytest.mark.parametrize(
    ("addition", "why"),
    [
        (Addition("etc", 0o644, b""), "/etc is a dir in the packages"),
        (Addition("etc/a", 0o755), "/etc/a is a file in the packages"),
        (Addition("etc/link/x", 0o644, b""), "/etc/link is no folder"),
        (Addition("etc/twice", 0o644, b""), "other names"),
    ],
)
def test_what_cannot_be_put_over_is_refused(addition: Addition, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        over(addition)


def test_entries_are_dumped_as_json_with_a_line_for_each(tmp_path: Path) -> None:
    tree.dump(BELOW, tmp_path / "entries.json")
    text = (tmp_path / "entries.json").read_text()
    assert json.loads(text) == BELOW
    assert len(text.splitlines()) == len(BELOW) + 2
