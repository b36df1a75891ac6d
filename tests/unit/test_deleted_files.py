"""What clients of NFS left over when they deleted a file that was open."""

from __future__ import annotations

from pathlib import Path

import pytest

from hubsmith_nfs_server import deleted_files
from hubsmith_nfs_server.deleted_files import FOLIO, make_room, open_inodes, sort_out


def test_what_clients_have_open_is_known_by_its_inode(tmp_path: Path) -> None:
    (tmp_path / "3").mkdir()
    (tmp_path / "5").mkdir()
    (tmp_path / "3" / "states").write_text("")
    # As Linux 6.12 writes it.
    (tmp_path / "5" / "states").write_text(
        '- 0x00000001f167046b0b2583c104000000: { type: open, access: -w, deny: --, superblock: "fd:12:25165962", '
        'filename: "student2/.nfs000000000180008a00000001", owner: "open id:\\x00!" }\n'
        '- 0x00000001f167046b0b2583c105000000: { type: deleg, access: r, superblock: "fd:12:77", filename: "a" }\n'
    )
    assert open_inodes(tmp_path) == {25165962, 77}


def test_only_deleted_files_that_nobody_has_open_are_removed(tmp_path: Path) -> None:
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    held, orphan, below, other, foreign = (
        home / ".nfs000000000180008a00000001", home / ".nfs000000000180008a00000002",
        home / "a" / "b" / ".nfs000000000180008a00000003", home / ".nfsrc", elsewhere / ".nfs000000000180008a00000004",
    )  # fmt: skip
    below.parent.mkdir(parents=True)
    elsewhere.mkdir()
    for file in (held, orphan, below, other, foreign):
        file.write_text("x")
    (home / "link").symlink_to(elsewhere)
    removed, kept = sort_out(home, {held.stat().st_ino})
    assert (sorted(removed), kept) == ([orphan, below], [held])
    assert [file.exists() for file in (held, orphan, below, other, foreign)] == [True, False, False, True, True]


def test_a_limit_is_raised_until_the_files_are_gone_and_set_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, limits = tmp_path / ".nfs000000000180008a00000001", [32768]
    file.write_text("x")

    # Stand for a disk with XFS and its quotas.
    def xfs_quota(command: str) -> str:
        limits.append(int(command.removeprefix("limit -p bhard=").removesuffix("k 7")))
        file.unlink(missing_ok=True)  # there was room for the client's last pages
        return ""

    monkeypatch.setattr(deleted_files, "xfs_quota", xfs_quota)
    monkeypatch.setattr(deleted_files, "report", lambda which, what: {7: (32768, limits[-1])})
    make_room(7, 32768, [file])
    assert limits == [32768, 32768 + FOLIO, 32768]
