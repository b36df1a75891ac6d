"""Who is let in, on which port, and what is told: the rules of the local spawner."""

from __future__ import annotations

import json
import pwd
from pathlib import Path

import pytest

from hubsmith_jupyterhub.usage import home_usage
from hubsmith_spawner_local import confinement

MIB = 1024**2
ALICE = pwd.struct_passwd(("alice", "x", 2000, 2000, "", "/home/alice", "/bin/bash"))


def usage(folder: Path, used: int, limit: int, files: int = 10, files_limit: int = 1000) -> str | None:
    content = {"used": used, "limit": limit, "files": files, "files_limit": files_limit}
    (folder / "alice.json").write_text(json.dumps(content))
    return home_usage("alice", folder)


def test_each_user_has_a_port_of_the_own() -> None:
    ports = [confinement.port_of(uid) for uid in range(2000, 12_000)]
    assert len(set(ports)) == 10_000
    assert (min(ports), max(ports)) == (20_000, 29_999)
    assert confinement.port_of(59_999) in ports


def test_nothing_is_told_while_there_is_room(tmp_path: Path) -> None:
    assert usage(tmp_path, 89 * MIB, 100 * MIB) is None
    assert usage(tmp_path, 0, 0, 0, 0) is None


def test_a_home_that_fills_is_reported(tmp_path: Path) -> None:
    assert usage(tmp_path, 90 * MIB, 100 * MIB) == (
        "Your home is nearly full (90 of 100 MiB, 10 files): delete what you do not need."
    )
    assert "is full (100 of 100 MiB" in (usage(tmp_path, 100 * MIB, 100 * MIB) or "")


def test_a_home_with_too_many_files_is_reported(tmp_path: Path) -> None:
    assert "is full (1 of 100 MiB, 1000 files)" in (usage(tmp_path, MIB, 100 * MIB, files=1000) or "")


@pytest.mark.parametrize("content", [None, "", '{"used": '])
def test_an_unknown_usage_keeps_nobody_out(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "alice.json").write_text(content)
    assert home_usage("alice", tmp_path) is None


def slice_of(folder: Path, limit: str, *servers: int) -> Path:
    """A control group as the kernel shows it; ``servers``: the anonymous memory of each, in MiB."""
    (folder / "memory.max").write_text(f"{limit}\n")
    for number, size in enumerate(servers):
        server = folder / f"jupyter-{number}-singleuser.service"
        server.mkdir()
        (server / "memory.stat").write_text(f"anon {size * MIB}\nfile {900 * MIB}\nkernel {MIB}\nshmem {2 * MIB}\n")
    return folder


def test_the_page_cache_is_not_memory_that_is_gone(tmp_path: Path) -> None:
    assert confinement.memory_left(slice_of(tmp_path, str(2048 * MIB), 300, 500)) == (2048 - 303 - 503) * MIB


def test_a_server_that_has_just_started_counts_with_what_it_will_need(tmp_path: Path) -> None:
    needed = confinement.NEEDED
    assert confinement.memory_left(slice_of(tmp_path, str(2048 * MIB), 1, 2)) == 2048 * MIB - 2 * needed


def test_without_a_limit_everybody_is_let_in(tmp_path: Path) -> None:
    assert confinement.memory_left(tmp_path / "not-there") is None
    assert confinement.memory_left(slice_of(tmp_path, "max", 300)) is None


def test_only_admins_can_write_the_shared_folder() -> None:
    admin, user = (confinement.confinement(ALICE, memory=None, admin=who) for who in (True, False))
    assert admin["BindPaths"] == "/home/alice -/home/shared"
    assert "BindReadOnlyPaths" not in admin
    assert (user["BindPaths"], user["BindReadOnlyPaths"]) == ("/home/alice", "-/home/shared")


def test_memory_is_slowed_before_it_is_refused() -> None:
    assert confinement.confinement(ALICE, memory=1000 * MIB, admin=False)["MemoryHigh"] == str(950 * MIB)
    assert "MemoryHigh" not in confinement.confinement(ALICE, memory=None, admin=False)


def test_sockets_of_kernels_fit_into_their_address() -> None:
    socket = f"{confinement.RUNTIME}/jupyter/kernel-{'0' * 8}-0000-0000-0000-{'0' * 12}-ipc-5"
    assert len(socket) < 108  # sockaddr_un.sun_path, unix(7)
