"""Every bad settings file gives exactly the text that is committed beside it.

To accept new texts: ``HUBSMITH_WRITE_GOLDEN=1 pytest tests/unit/test_settings_errors.py``, then read the diff.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hubsmith.definition.schemas import schemas
from hubsmith.settings.errors import SettingsError
from hubsmith.settings.load import LARGEST_FILE, load, parse

HERE = Path(__file__).parent
SCHEMAS = schemas(HERE.parents[1])
SCHEMA = SCHEMAS["master"]
BAD = sorted((HERE / "settings_bad").glob("*.toml"))


def problems_of(file: Path) -> SettingsError:
    image = "swarm-worker" if file.stem.startswith("worker_") else "master"
    with pytest.raises(SettingsError) as caught:
        parse(file.read_bytes(), "settings.toml", SCHEMAS[image])
    return caught.value


def test_there_are_many_cases() -> None:
    assert len(BAD) >= 50


@pytest.mark.parametrize("file", BAD, ids=lambda file: file.stem)
def test_the_text_is_the_committed_one(file: Path) -> None:
    text = f"{problems_of(file)}\n"
    golden = file.with_suffix(".txt")
    if os.environ.get("HUBSMITH_WRITE_GOLDEN"):
        golden.write_text(text)
    assert text == golden.read_text()


@pytest.mark.parametrize("file", BAD, ids=lambda file: file.stem)
def test_no_secret_and_no_value_is_shown(file: Path) -> None:
    error = problems_of(file)
    everything = f"{error} {json.dumps(error.as_json())}"
    assert "hunter2" not in everything
    assert "PRIVATE KEY-----\n" not in everything
    public = " ".join(problem.public for problem in error.problems)
    for name in ("alice", "Alice", "example.org", "hub.local", "203.0.113.7"):
        assert name not in public.replace("hub.example.org, not for", "")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="does not exist; cloud-init writes it"):
        load(tmp_path / "settings.toml", SCHEMA)


def test_a_folder(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read: Is a directory"):
        load(tmp_path, SCHEMA)


def test_a_file_that_never_ends() -> None:
    with pytest.raises(SettingsError, match="larger than 1024 KiB"):
        load(Path("/dev/zero"), SCHEMA)


def test_the_largest_file_is_read(tmp_path: Path) -> None:
    small = (HERE / "settings_good" / "smallest.toml").read_bytes()
    file = tmp_path / "settings.toml"
    file.write_bytes(small + b"#" * (LARGEST_FILE - len(small)))
    assert load(file, SCHEMA).tables["users"][0].name == "alice"


def test_deep_nesting_is_no_crash() -> None:
    with pytest.raises(SettingsError, match=r"settings\.toml"):
        parse(b"x = " + b"[" * 100_000, "settings.toml", SCHEMA)


def test_the_command_says_it_and_exits_with_3() -> None:
    file = HERE / "settings_bad" / "many_problems.toml"
    argv = [str(Path(sys.executable).with_name("hubsmith")), "settings", "check"]
    done = subprocess.run([*argv, str(file)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.splitlines()[0]) == (3, f"{file}: 7 problems in the settings")
    as_json = subprocess.run([*argv, str(file), "--json"], capture_output=True, text=True, check=False)
    assert as_json.returncode == 3
    lines = [problem["line"] for problem in json.loads(as_json.stdout)["problems"]]
    assert lines == [2, 3, 5, 7, 9, 10, 11]


def test_the_command_on_a_good_file() -> None:
    file = HERE / "settings_good" / "everything.toml"
    hubsmith = Path(sys.executable).with_name("hubsmith")
    done = subprocess.run([hubsmith, "settings", "check", file, "--json"], capture_output=True, text=True, check=False)
    assert (done.returncode, json.loads(done.stdout)) == (0, {"file": str(file), "problems": [], "image": "master"})
