"""Good settings: what is read, what is kept, and the reference that is made from the schema."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import bcrypt
import pytest

from hubsmith.definition.schemas import all_readers, readers, schemas, whole_schema
from hubsmith.errors import HubsmithError
from hubsmith.settings.lines import key_lines, nearest_line
from hubsmith.settings.load import check, load
from hubsmith.settings.passwords import hash_password
from hubsmith.settings.reference import reference, tables
from hubsmith.settings.scalars import format_duration, format_size, parse_duration, parse_size
from hubsmith_swarm_manager.apply import POOL

HERE = Path(__file__).parent
GOOD = HERE / "settings_good"
ROOT = HERE.parents[1]
SCHEMA = schemas(ROOT)["master"]


def read(file: Path) -> SimpleNamespace:
    """The tables of a good file of a master, by name."""
    return SimpleNamespace(**load(file, SCHEMA).tables)


def test_the_smallest_file() -> None:
    settings = read(GOOD / "smallest.toml")
    assert [user.name for user in settings.users] == ["alice"]
    assert (settings.hub.domain, settings.tls.mode, settings.homes.quota) == (None, "self-signed", 2 * 1024**3)


def test_everything_at_once() -> None:
    settings = read(GOOD / "everything.toml")
    assert settings.hub.announcement == "Wartung am Freitag, 18–19 Uhr"
    assert settings.hub.admins == ("alice", "carol_2")
    assert [len(user.ssh_keys) for user in settings.users] == [1, 0, 2]
    assert settings.users[0].quota == 10 * 1024**3
    assert (settings.spawner.memory, settings.spawner.cpu, settings.spawner.start_timeout) == (1.5 * 1024**3, 2.0, 180)
    assert (settings.idle.cull_after, settings.idle.every, settings.idle.kernels_after) == (5400, 60, 0)
    assert (settings.homes.quota, settings.homes.shared) == (512 * 1024**2, False)


@pytest.mark.parametrize("file", sorted(GOOD.glob("*.toml")), ids=lambda file: file.stem)
def test_every_good_file_is_good_and_passes_through_json(file: Path) -> None:
    settings = load(file, SCHEMA)
    tables, problems = check(json.loads(json.dumps(settings.plain())), SCHEMA)
    assert (tables, problems) == (settings.tables, [])


def test_settings_cannot_be_changed_and_secrets_are_not_in_their_text() -> None:
    settings = read(GOOD / "everything.toml")
    with pytest.raises(ValueError, match="frozen"):
        settings.hub.domain = "x"
    assert "$y$" not in repr(settings)
    assert "PRIVATE" not in repr(read(GOOD / "provided.toml"))


def test_every_field_has_a_description_and_an_example_that_is_good() -> None:
    for name, model in tables(whole_schema(ROOT)):
        assert model.__doc__, name
        for key, field in model.model_fields.items():
            assert field.description, f"{name}.{key}"
            assert field.examples, f"{name}.{key}"
            if "…" not in str(field.examples[0]):  # PEM texts, hashes and keys are shortened
                model.__pydantic_validator__.validate_assignment(model.model_construct(), key, field.examples[0])


def test_the_reference_is_current() -> None:
    committed = (ROOT / "docs/operators/settings.md").read_text(encoding="utf-8")
    assert committed == reference(whole_schema(ROOT), all_readers(ROOT)), "run `hubsmith settings reference --write`"


@pytest.mark.parametrize(
    ("text", "size"),
    [("512M", 512 * 2**20), ("2G", 2**31), ("1.5 GiB", 3 * 2**29), ("1t", 2**40), ("10kB", 10240), (7, 7)],
)
def test_sizes(text: str | int, size: int) -> None:
    assert parse_size(text) == size
    assert parse_size(format_size(size)) == size if size >= 1024 else format_size(size) == "7"


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("1h30m", 5400), ("2d", 172800), ("1d1h1m1s", 90061), (5, 5)]
)
def test_durations(text: str | int, seconds: int) -> None:
    assert parse_duration(text) == seconds
    assert parse_duration(format_duration(seconds)) == seconds


@pytest.mark.parametrize("text", ["", " ", "h", "1", "1h 30m", "30m1h", "-5s", True, None, 1.5, "1w"])
def test_what_is_no_duration(text: object) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["", "G", "1", "1 X", "-1G", True, None, 1.5, "1e3M"])
def test_what_is_no_size(text: object) -> None:
    with pytest.raises(ValueError, match="not a size"):
        parse_size(text)


def test_lines_are_found_past_everything_that_toml_has() -> None:
    text = '''# comment
[hub] # a table
domain = "x" # [not.a.table]
admins = [
  "alice", # y = 1
  "[[users]]",
]
announcement = """
z = 1
[zzz]
"""
"quoted key" = 1
idle.every = 5

[[users]]
name = "a"
[[users]]
ssh_keys = ["a]"]
name = "b"
'''
    tomllib.loads(text)
    lines = key_lines(text)
    assert lines == {
        "hub": 2, "hub.domain": 3, "hub.admins": 4, "hub.announcement": 8, "hub.quoted key": 12, "hub.idle.every": 13,
        "users": 15, "users[0]": 15, "users[0].name": 16, "users[1]": 17, "users[1].ssh_keys": 18, "users[1].name": 19,
    }  # fmt: skip
    assert nearest_line(lines, "users[1].quota") == 17
    assert nearest_line(lines, "hub.admins[1]") == 4
    assert nearest_line(lines, "tls.mode") is None


def test_a_hash_of_a_password_is_taken_by_the_schema_and_verifies() -> None:
    made = hash_password("correct horse", cost=4)
    assert bcrypt.checkpw(b"correct horse", made.encode())
    assert made != hash_password("correct horse", cost=4)


@pytest.mark.parametrize("password", ["short", "x" * 73, "ä" * 40, "nul\0inside"])
def test_passwords_that_cannot_be_hashed(password: str) -> None:
    with pytest.raises(HubsmithError, match=r"too (short|long)"):
        hash_password(password, cost=4)


def test_the_hash_command_reads_standard_input_and_its_hash_is_good(tmp_path: Path) -> None:
    hubsmith = Path(sys.executable).with_name("hubsmith")
    argv = [hubsmith, "settings", "hash-password", "--cost", "4"]
    done = subprocess.run(argv, input="correct horse\n", capture_output=True, text=True, check=True)
    file = tmp_path / "settings.toml"
    file.write_text(f'[[users]]\nname = "alice"\npassword_hash = "{done.stdout.strip()}"\n')
    assert bcrypt.checkpw(b"correct horse", str(read(file).users[0].password_hash).encode())


def test_the_networks_of_containers_are_those_of_the_engine() -> None:
    engine = json.loads((ROOT / "modules/docker/files/etc/docker/daemon.json").read_text())
    networks = SCHEMA.facts["container_networks"]
    assert set(networks) == {POOL, *(pool["base"] for pool in engine["default-address-pools"])}


def test_an_image_does_not_repeat_what_it_took_over() -> None:
    worker = schemas(ROOT)["swarm-worker"]
    alone = readers({"master": SCHEMA, "swarm-worker": worker}, {"master": (), "swarm-worker": ()})
    more = {"master": SCHEMA, "swarm-worker": worker, "teaching": SCHEMA}
    assert readers(more, {"master": (), "swarm-worker": (), "teaching": ("master",)}) == alone
    other = readers(more, {"master": (), "swarm-worker": (), "teaching": ("swarm-worker",)})
    assert other["users"] == ("master", "teaching")
    assert other["cluster.network"] == ("master", "swarm-worker")
