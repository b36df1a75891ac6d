"""Accounts for a class, and the tables of a cluster that is launched by hand."""

from __future__ import annotations

import csv
import json
import tomllib
from pathlib import Path

import bcrypt
import pytest

from hubsmith.cli import main
from hubsmith.definition.schemas import schemas
from hubsmith.paths import project_root
from hubsmith.run import run
from hubsmith.settings.keys import pin_of
from hubsmith.settings.load import parse

SCHEMAS = schemas(project_root(Path(__file__)))
URL = "https://hub.example.org/?a=1&b=2"


def test_a_class_gets_accounts_slips_and_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "class"
    words = ["roster", "3", "--first", "8", "--prefix", "guest", "--url", URL, "--out", str(out), "--json"]
    assert main(words) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out) == [str(out / name) for name in ("users.toml", "slips.html", "accounts.csv")]
    rows = list(csv.DictReader((out / "accounts.csv").open()))
    assert [row["name"] for row in rows] == ["guest8", "guest9", "guest10"]
    page, settings = (out / "slips.html").read_text(), (out / "users.toml").read_text()
    users = tomllib.loads(settings)["users"]
    parse(settings.encode(), "users.toml", SCHEMAS["master"])
    for row, user in zip(rows, users, strict=True):
        assert user["name"] == row["name"]
        assert bcrypt.checkpw(row["password"].encode(), user["password_hash"].encode())
        assert f"<dd>{row['password']}</dd>" in page
        assert row["password"] not in settings + printed.out + printed.err
    assert page.count("https://hub.example.org/?a=1&amp;b=2") == 3
    assert {file.stat().st_mode & 0o777 for file in out.iterdir()} == {0o600}
    # What was handed out is not written over.
    before = page
    assert main(words) == 1
    assert f"{out / 'users.toml'}: the file exists and is not overwritten" in capsys.readouterr().err
    assert (out / "slips.html").read_text() == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["0"], "between 1 and 1000"),
        (["2", "--prefix", "Guest"], "--prefix: "),
        (["2", "--prefix", "g" * 32], "--prefix: "),
    ],
)
def test_accounts_that_cannot_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert main(["roster", *words, "--url", URL, "--out", str(tmp_path / "out")]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_git_takes_no_notice_of_a_class(tmp_path: Path) -> None:
    run(["git", "init", "--quiet", tmp_path])
    assert main(["roster", "1", "--url", URL, "--out", str(tmp_path / "class")]) == 0
    assert run(["git", "-C", tmp_path, "status", "--porcelain"]).stdout == ""
    run(["git", "-C", tmp_path, "add", "--all"])
    assert run(["git", "-C", tmp_path, "ls-files"]).stdout == ""


def test_tables_of_a_cluster_fit_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["settings", "cluster", str(tmp_path / "c"), "--network", "10.5.0.0/24", "--manager", "10.5.0.2"]
    assert main(words) == 0
    files = [tmp_path / "c" / f"{one}.toml" for one in ("master", "worker")]
    master, worker = (tomllib.loads(file.read_text())["cluster"] for file in files)
    assert master["secret"] == worker["secret"]
    assert worker["pin"] == pin_of(master["key"])
    assert master["secret"] not in capsys.readouterr().out
    parse(
        (tmp_path / "c" / "worker.toml").read_bytes(),
        "worker.toml",
        SCHEMAS["swarm-worker"],
    )
    assert main(words) == 1


@pytest.mark.parametrize(
    ("network", "manager", "message"),
    [
        ("10.5.0.0/24", "10.6.0.2", "is not in `cluster.network`"),
        ("10.5.0.0/40", "10.5.0.2", "--network: not an IPv4 network"),
        ("172.20.0.0/24", "172.20.0.2", "networks of containers"),
    ],
)
def test_a_cluster_that_cannot_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], network: str, manager: str, message: str
) -> None:
    assert main(["settings", "cluster", str(tmp_path / "c"), "--network", network, "--manager", manager]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "c").exists()
