"""Host files and what is remembered of a deployment; machines are brought up in ``tests/vm/test_deploy_tiny.py``."""

from __future__ import annotations

import json
import re
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import bcrypt
import pytest

from hubsmith.deploy.hosts import Deployment, Host, Network, load_deployment
from hubsmith.deploy.record import Record
from hubsmith.deploy.values import fill
from hubsmith.errors import DefinitionError, HubsmithError
from hubsmith.settings.keys import pin_of
from hubsmith.settings.passwords import one_time_password

ROOT = Path(__file__).parents[2]


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Record:
    monkeypatch.setenv("HUBSMITH_STATE", str(tmp_path / "state"))
    return Record("single")


def load(tmp_path: Path, text: str) -> Deployment:
    (tmp_path / "hosts").mkdir(exist_ok=True)
    (tmp_path / "hosts" / "x.toml").write_text(text)
    return load_deployment(tmp_path / "hosts" / "x.toml")


HEAD = '[deployment]\nname = "x"\n'


@pytest.mark.parametrize("path", sorted((ROOT / "hosts").glob("*.toml")), ids=lambda path: path.stem)
def test_the_host_files_of_the_tree_are_good(path: Path) -> None:
    assert load_deployment(path).machines()


def test_a_count_makes_so_many_machines(tmp_path: Path) -> None:
    found = load(tmp_path, HEAD + '[hosts.hub]\nimage = "master"\n[hosts.worker]\nimage = "worker"\ncount = 3\n')
    assert list(found.machines()) == ["hub", "worker-1", "worker-2", "worker-3"]
    assert list(found.machines({"worker": 1})) == ["hub", "worker-1"], "it keeps its name when it is the only one left"


def test_hosts_come_in_the_order_that_they_need(tmp_path: Path) -> None:
    text = HEAD + "".join(
        f'[hosts.{name}]\nimage = "m"\nneeds = {json.dumps(needs)}\n'
        for name, needs in (("d", ["b", "c"]), ("b", ["a"]), ("c", ["a"]), ("a", []))
    )
    found = load(tmp_path, text)
    assert found.waves() == [["a"], ["b", "c"], ["d"]]
    assert list(found.machines()) == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD, "hosts/x.toml: missing key 'hosts'"),
        (HEAD + "[hosts.hub]\n", "missing key 'hosts.hub.image'"),
        (HEAD + '[hosts.hub]\nimage = "m"\nmemory = 3\n', "unknown key 'hosts.hub.memory'; did you mean 'memory_mb'?"),
        (HEAD + '[hosts.hub]\nimage = "m"\nmemory_mb = "3"\n', "hosts.hub.memory_mb: input should be a valid integer"),
        (HEAD + '[hosts.hub]\nimage = "m"\nfirmware = "efi"\n', "hosts.hub.firmware: input should be 'uefi' or 'bios'"),
        (HEAD + '[hosts.Hub]\nimage = "m"\n', "hosts.Hub"),
        ('[deployment]\nname = "x"\ntarget = "aws"\n', "deployment.target: input should be 'qemu'"),
        ("[deployment\n", "not TOML"),
        (HEAD + '[hosts.a]\nimage = "m"\nneeds = ["bb"]\n[hosts.b]\nimage = "m"\n', "no host 'bb'; did you mean 'b'?"),
        (HEAD + '[hosts.a]\nimage = "m"\nneeds = ["b"]\n[hosts.b]\nimage = "m"\nneeds = ["a"]\n', "need each other: "),
        (HEAD + '[network]\ncidr = "8.8.8.0/24"\n[hosts.a]\nimage = "m"\n', "network.cidr"),
        (HEAD + '[network]\nmtu = 500\n[hosts.a]\nimage = "m"\n', "network.mtu"),
    ],
)
def test_a_bad_host_file_is_refused_with_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DefinitionError, match=re.escape(message)):
        load(tmp_path, text)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match="there is no such file"):
        load_deployment(tmp_path / "hosts" / "none.toml")


def test_one_time_passwords_are_made_once_for_who_has_no_other_way_in(record: Record) -> None:
    digest = bcrypt.hashpw(b"something", bcrypt.gensalt(4)).decode()
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ6tGFzDwQc6uLnftZgIa+t1Rua/Io6xIgP2PXORzceH carol@laptop"
    users = [{"name": "alice"}, {"name": "bob", "password_hash": digest}, {"name": "carol", "ssh_keys": [key]}]
    host = Host(image="master", settings={"users": users})
    text, passwords = record.settings("hub", host, {}, ROOT)
    assert list(passwords) == ["alice"]
    written = {user["name"]: user for user in tomllib.loads(text)["users"]}
    assert bcrypt.checkpw(passwords["alice"].encode(), written["alice"]["password_hash"].encode())
    assert written["bob"]["password_hash"] == digest
    assert "password_hash" not in written["carol"]
    assert passwords["alice"] not in text
    assert not record.folder.exists(), "settings are looked at before anything is written"
    record.save()
    # Again, and by another process: nothing changes, so that a running machine is up to date.
    assert Record("single").settings("hub", host, {}, ROOT) == (text, passwords)
    assert "alice" in json.loads((record.folder / "credentials.json").read_text())["hub"]


def test_the_record_is_for_its_owner_only(record: Record) -> None:
    record.settings("hub", Host(image="master", settings={"users": [{"name": "alice"}]}), {}, ROOT)
    record.save()
    assert stat.S_IMODE(record.folder.stat().st_mode) == 0o700
    for path in record.folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path.name


def test_bad_settings_are_refused_before_anything_starts(record: Record) -> None:
    with pytest.raises(DefinitionError, match=r"(?s)hosts.hub.settings.*hub.admin.*did you mean `admins`"):
        record.settings("hub", Host(image="master", settings={"hub": {"admin": ["alice"]}}), {}, ROOT)


def test_settings_are_those_of_the_hosts_own_image(record: Record) -> None:
    worker = Host(image="swarm-worker", settings={"users": [{"name": "alice"}]})
    with pytest.raises(
        DefinitionError, match=r"(?s)hosts.w.settings.*users: no module of the image swarm-worker reads"
    ):
        record.settings("w", worker, {}, ROOT)
    with pytest.raises(DefinitionError, match=r"hosts.w.image: there is no image of machines 'mater'; did you mean"):
        record.settings("w", Host(image="mater", settings={}), {}, ROOT)


def test_passwords_are_long_enough_and_differ() -> None:
    many = {one_time_password() for _ in range(1000)}
    assert len(many) == 1000
    assert all(re.fullmatch(r"([a-z2-9]{4}-){2}[a-z2-9]{4}", one) for one in many)


def test_two_commands_do_not_change_one_deployment(record: Record) -> None:
    code = "from hubsmith.deploy.record import Record\nwith Record('single').locked(): print('mine')"
    with record.locked():
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert "another command is changing this deployment" in other.stderr
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "mine\n"


def test_a_lock_that_is_free_soon_is_waited_for(record: Record) -> None:
    """A child of a killed command may hold it for a moment."""
    record.folder.mkdir(parents=True, exist_ok=True)
    holder = subprocess.Popen(
        ["flock", "--exclusive", record.folder / ".lock", "sh", "-c", "echo held; sleep 0.5"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with record.locked():
            assert holder.wait(timeout=5) == 0


def test_a_partly_written_record_is_never_seen(record: Record) -> None:
    record.write("credentials.json", {"hub": {"alice": "old"}})
    with pytest.raises(TypeError):
        record.write("credentials.json", {"hub": object()})
    assert record.read("credentials.json") == {"hub": {"alice": "old"}}
    with pytest.raises(HubsmithError), record.locked(), record.locked():
        pass


def test_addresses_are_kept_when_machines_come_and_go(record: Record) -> None:
    network = Network(cidr="10.77.0.0/28")
    first = record.addresses(network, ["master", "worker-1"])
    assert first == {"master": "10.77.0.10", "worker-1": "10.77.0.11"}
    assert record.addresses(network, ["worker-2", "worker-1", "master"]) == {**first, "worker-2": "10.77.0.12"}
    with pytest.raises(HubsmithError, match="no address left"):
        record.addresses(network, [f"worker-{number}" for number in range(9)])
    assert record.addresses(Network(cidr="10.78.0.0/28"), ["master"]) == {"master": "10.78.0.10"}


def test_settings_name_addresses_and_secrets(record: Record) -> None:
    sources = record._sources({"master": "10.77.0.10"})
    settings = {"a": ["at ${address.master}:80"], "b": {"c": "${secret.join}"}, "d": 3}
    filled = fill(settings, sources, "hosts.x.settings")
    assert filled == {"a": ["at 10.77.0.10:80"], "b": {"c": record.secret("join")}, "d": 3}
    assert settings["b"] == {"c": "${secret.join}"}
    assert len(record.secret("join")) >= 43
    record.save()
    assert record.secret("other") != record.secret("join") == Record("single").secret("join")
    assert stat.S_IMODE((record.folder / "secrets.json").stat().st_mode) == 0o600


def test_a_key_goes_to_one_and_its_pin_to_the_others(record: Record) -> None:
    filled = fill(["${key.join}", "${pin.join}", "${pin.other}"], record._sources({}), "hosts.x.settings")
    record.save()
    assert filled[0] == Record("single").private_key("join")
    assert filled[1] == pin_of(filled[0]) != filled[2]
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", filled[1])
    assert stat.S_IMODE((record.folder / "keys.json").stat().st_mode) == 0o600


KNOWN = "known are ${address.NAME}, ${secret.NAME}, ${key.NAME}, ${pin.NAME}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("${address.mastr}", "no machine 'mastr'; did you mean 'master'?"),
        ("${secret.Join}", KNOWN),
        ("${password}", KNOWN),
    ],
)
def test_what_settings_name_and_nobody_knows(record: Record, text: str, message: str) -> None:
    with pytest.raises(DefinitionError, match=re.escape(f"hosts.x.settings.a.b: {text}: {message}")):
        fill({"a": {"b": text}}, record._sources({"master": "10.77.0.10"}), "hosts.x.settings")
    assert record.secret("x") and not record.folder.exists()


def test_settings_of_several_files(tmp_path: Path) -> None:
    (tmp_path / "hosts").mkdir()
    more = tmp_path / "hosts" / "class.toml"
    text = HEAD + '[hosts.hub]\nimage = "master"\nsettings_from = ["class.toml"]\n[hosts.hub.settings]\n'
    text += 'homes.quota = "1G"\nusers = [{name = "teacher"}]\n'
    with pytest.raises(DefinitionError, match="no such file"):
        load(tmp_path, text)
    more.write_text('homes.shared = false\n[[users]]\nname = "student1"\n')
    settings = load(tmp_path, text).hosts["hub"].settings
    assert settings["homes"] == {"quota": "1G", "shared": False}
    assert [user["name"] for user in settings["users"]] == ["teacher", "student1"]
    more.write_text('homes.quota = "1G"\n')
    with pytest.raises(DefinitionError, match=r"settings_from class\.toml: homes: quota has a value already"):
        load(tmp_path, text)
