"""The metadata service, with a guest that means harm."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hubsmith.vm import metadata_server
from hubsmith.vm.metadata_server import LOG, LONGEST_BODY, LONGEST_LOG, PASSWORD


def ask(folder: Path, *requests: bytes) -> bytes:
    """All answers on one connection, which ends when the server closes it or the requests do."""
    (folder / "tree").mkdir(exist_ok=True)
    command = [sys.executable, metadata_server.__file__, str(folder)]
    return subprocess.run(command, input=b"".join(requests), capture_output=True, timeout=30).stdout


def post(length: str, body: bytes = b"") -> bytes:
    head = f"POST /openstack/latest/password HTTP/1.1\r\nHost: metadata\r\nContent-Length: {length}\r\n\r\n"
    return head.encode() + body


def test_a_password_is_kept(tmp_path: Path) -> None:
    assert ask(tmp_path, post("6", b"secret")).startswith(b"HTTP/1.1 200 ")
    assert (tmp_path / PASSWORD).read_bytes() == b"secret"


@pytest.mark.parametrize(
    ("length", "status"), [(str(LONGEST_BODY + 1), 413), ("9" * 30, 413), ("-1", 400), ("many", 400)]
)
def test_a_body_that_is_too_long_is_not_read(tmp_path: Path, length: str, status: int) -> None:
    answer = ask(tmp_path, post(length, b"x" * 100), post("6", b"secret"))
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert answer.count(b"HTTP/1.1") == 1, "the connection is closed"
    assert not (tmp_path / PASSWORD).exists()


def test_the_log_is_bounded(tmp_path: Path) -> None:
    (tmp_path / LOG).write_text("x" * LONGEST_LOG)
    ask(tmp_path, b"GET / HTTP/1.1\r\nHost: metadata\r\n\r\n")
    assert (tmp_path / LOG).stat().st_size == LONGEST_LOG


def test_nothing_outside_the_tree_is_served(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    for path in ("/../secret", "//../secret", "/%2e%2e/secret", "/tree/../../secret"):
        answer = ask(tmp_path, f"GET {path} HTTP/1.1\r\nHost: metadata\r\n\r\n".encode())
        assert b"404" in answer and b"secret" not in answer.partition(b"\r\n\r\n")[2], path


@pytest.mark.parametrize("path", ["/a\0b", f"/{'x' * 300}", f"/{'x/' * 3000}"], ids=["NUL", "long name", "long path"])
def test_a_path_that_no_file_has_is_not_found(tmp_path: Path, path: str) -> None:
    answer = ask(tmp_path, f"GET {path} HTTP/1.1\r\nHost: metadata\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 404 ")
