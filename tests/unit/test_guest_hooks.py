"""The logic of the accounts' and homes' hooks that needs no machine; the rest is proven in virtual machines."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hubsmith_accounts import apply as accounts
from hubsmith_homes import apply as homes_hook

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to other users")


@pytest.fixture
def homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setattr(accounts, "HOMES", folder)
    return folder


def test_new_names_get_the_next_free_uids(homes: Path) -> None:
    assert accounts.assign_uids(["alice", "bob"], {}) == {"alice": 2000, "bob": 2001}


def test_a_uid_is_never_given_to_another_name(homes: Path) -> None:
    assert accounts.assign_uids(["carol"], {"alice": 2000}) == {"alice": 2000, "carol": 2001}


def test_the_order_of_the_settings_changes_nothing(homes: Path) -> None:
    known = accounts.assign_uids(["alice", "bob"], {})
    assert accounts.assign_uids(["bob", "alice"], known) == known


@ROOT_ONLY
def test_a_home_gives_its_uid_back_to_its_name_and_to_nobody_else(homes: Path) -> None:
    for name, uid in (("bob", 2000), ("stranger", 2001)):
        (homes / name).mkdir()
        os.chown(homes / name, uid, uid)
    assert accounts.assign_uids(["alice", "bob"], {}) == {"alice": 2002, "bob": 2000}


@ROOT_ONLY
@pytest.mark.parametrize("uid", [0, 1000, 65534])
def test_a_home_of_root_or_of_an_operator_gives_its_uid_to_nobody(homes: Path, uid: int) -> None:
    (homes / "alice").mkdir()
    os.chown(homes / "alice", uid, uid)
    assert accounts.assign_uids(["alice"], {}) == {"alice": 2000}


@ROOT_ONLY
def test_two_names_never_share_a_uid_by_their_homes(homes: Path) -> None:
    for name in ("alice", "bob"):
        (homes / name).mkdir()
        os.chown(homes / name, 2005, 2005)
    uids = accounts.assign_uids(["alice", "bob"], {})
    assert uids["alice"] == 2005
    assert uids["bob"] != 2005


def test_an_account_that_is_not_the_hubs_is_not_taken_over(homes: Path) -> None:
    with pytest.raises(SystemExit, match="'nobody' exists already"):
        accounts.assign_uids(["nobody"], {})


def link_shared(home: Path, *, wanted: bool) -> None:
    homes_hook.link_shared(home, (os.geteuid(), os.getegid()), wanted)


def test_the_link_to_the_shared_folder_comes_and_goes(homes: Path) -> None:
    link_shared(homes, wanted=True)
    link_shared(homes, wanted=True)
    assert (homes / "shared").readlink() == Path("/home/shared")
    link_shared(homes, wanted=False)
    assert list(homes.iterdir()) == []


@pytest.mark.parametrize("wanted", [True, False])
def test_what_a_user_called_shared_is_left_alone(homes: Path, wanted: bool) -> None:
    (homes / "shared").mkdir()
    link_shared(homes, wanted=wanted)
    assert (homes / "shared").is_dir()
    (homes / "shared").rmdir()
    (homes / "shared").symlink_to("/etc")
    link_shared(homes, wanted=wanted)
    assert (homes / "shared").readlink() == Path("/etc")


def test_a_home_that_is_a_link_is_not_followed(homes: Path) -> None:
    (homes / "alice").symlink_to("/etc")
    with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
        link_shared(homes / "alice", wanted=True)
