"""What the modules of the hub make of the settings; that it runs is proven in virtual machines."""

from __future__ import annotations

import io
import json
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hubsmith.definition import define
from hubsmith.guest.apply import apply
from hubsmith.guest.layout import Layout
from hubsmith.settings.keys import new_private_key, pin_of
from hubsmith_spawner_local import apply as spawner_local

ROOT = Path(__file__).parents[2]
MODULES = ROOT / "modules"
MIB = 1024**2
HASH = "$6$abcdefgh$" + "a" * 86
SETTINGS = f"""
[hub]
domain = "hub.example.org"
admins = ["alice"]
announcement = 'Closed on <Friday> & "Saturday"'
upload_limit = "200M"
[spawner]
memory = "2G"
cpu = 1.5
[idle]
cull_after = "2h"
kernels_after = "30m"
[[users]]
name = "alice"
password_hash = "{HASH}"
[[users]]
name = "bob"
password_hash = "{HASH}"
"""


KEY = new_private_key()
CLUSTER = f"""
[cluster]
network = "10.77.0.0/24"
secret = "{"s" * 40}"
"""
MANAGER = f"""
{SETTINGS.replace("memory =", 'kind = "swarm"' + chr(10) + "memory =")}
{CLUSTER}
key = '''{KEY}'''
[metrics]
allow = ["192.0.2.1", "198.51.100.0/24"]
"""
WORKER = f"""
{CLUSTER}
manager = "10.77.0.10"
pin = "{pin_of(KEY)}"
"""


def machine(root: Path, image: str) -> Layout:
    """A machine of files with the modules of an image, without hooks."""
    layout = Layout(root)
    for folder in (layout.settings.parent, layout.modules, layout.hooks, layout.checks):
        folder.mkdir(parents=True)
    for topic in define(ROOT, image).modules:
        (layout.modules / topic).symlink_to(ROOT / "modules" / topic)
    return layout


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A master."""
    return machine(tmp_path / "root", "master")


def rendered(layout: Layout, settings: str = SETTINGS) -> Layout:
    layout.settings.write_text(settings)
    result = apply(layout)
    assert result.state == "good", result.reasons
    return layout


@pytest.mark.parametrize(
    ("image", "settings"), [("master", SETTINGS), ("master", MANAGER), ("swarm-worker", WORKER)],
    ids=["local", "manager", "worker"],
)  # fmt: skip
def test_every_template_renders_with_good_settings_and_with_none(tmp_path: Path, image: str, settings: str) -> None:
    layout = machine(tmp_path / "root", image)
    found = rendered(layout, settings)
    rules = "".join(file.read_text() for file in (found.run / "nftables").iterdir())
    opened = set(re.findall(r"ip saddr (\S+) tcp dport (\d+) accept", rules))
    peers = {"2049", "2377", "2378", "7946"} if image == "master" else {"7946"}
    wanted = {("10.77.0.0/24", port) for port in peers} if "[cluster]" in settings else set()
    wanted |= {(one, "9100") for one in ("192.0.2.1/32", "198.51.100.0/24")} if "[metrics]" in settings else set()
    assert opened == wanted
    layout.settings.write_text("nonsense = 1\n")
    assert apply(layout).state == "refused"
    rules = "".join(file.read_text() for file in (found.run / "nftables").iterdir())
    assert "saddr" not in rules


@pytest.mark.parametrize(("image", "settings"), [("master", MANAGER), ("swarm-worker", WORKER)])
def test_addresses_of_the_machines_come_by_their_interface_only(tmp_path: Path, image: str, settings: str) -> None:
    folder = rendered(machine(tmp_path / "root", image), settings).run / "nftables"
    rules = re.findall(r"hubsmith peers ip saddr 10\.77\.0\.0/24 (.*)", (folder / "ports.nft").read_text())
    assert rules[0].startswith("fib saddr . iif oif missing drop")


def test_overlay_networks_of_a_worker_lead_to_the_master_only(tmp_path: Path) -> None:
    rules = rendered(machine(tmp_path / "root", "swarm-worker"), WORKER).run / "nftables/worker.nft"
    assert "insert rule inet hubsmith input ip saddr != 10.77.0.10 udp dport 4789 drop" in rules.read_text()


def test_facts_are_there_for_programs_that_ask_nobody(layout: Layout) -> None:
    """Status items and checks read them; when the settings are refused, each is its default."""
    local = load(rendered(layout), "/run/hubsmith/facts.json")
    assert (local["home_owner"], local["swarm"], local["peers"]) == (None, False, [])
    swarm = load(rendered(layout, MANAGER), "/run/hubsmith/facts.json")
    assert (swarm["home_owner"], swarm["swarm"], swarm["peers"]) == ([1000, 100], True, ["10.77.0.0/24"])
    hook = layout.hooks / "90-homes"
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    assert apply(layout).state == "refused"
    assert load(layout, "/run/hubsmith/facts.json") == {**local, "ways_in": ["ssh_keys"]}


def test_prometheus_gets_in_with_the_hubs_token(layout: Layout) -> None:
    site = rendered(layout, MANAGER).run / "nginx/hub.d/metrics.conf"
    assert re.findall(r"(?:allow|deny) ([^;]+);", site.read_text()) == ["192.0.2.1/32", "198.51.100.0/24", "all"]
    assert load(layout, "/run/hubsmith/jupyterhub.json")["metrics_token"] in site.read_text()
    assert stat.S_IMODE(site.stat().st_mode) == 0o600
    rendered(layout)
    assert site.read_text() == ""


def load(layout: Layout, path: str) -> Any:
    return json.loads(layout.at(path).read_text())


def test_the_hub_learns_who_may_come_in_and_its_own_secrets(layout: Layout) -> None:
    found = load(rendered(layout), "/run/hubsmith/jupyterhub.json")
    assert (found["users"], found["admins"]) == (["alice", "bob"], ["alice"])
    assert found["announcement"] == 'Closed on <Friday> & "Saturday"'
    made = load(layout, "/var/lib/hubsmith/kept/secrets.json")
    for name in ("cookie_secret", "proxy_token", "culler_token", "metrics_token", "operator_token"):
        assert found[name] == made[name]
    assert f"={made['proxy_token']}\n" in layout.at("/run/hubsmith/proxy.env").read_text()
    assert f"={made['culler_token']}\n" in layout.at("/run/hubsmith/idle-culler.env").read_text()


def test_no_password_hash_leaves_the_settings(layout: Layout) -> None:
    rendered(layout)
    for file in layout.run.rglob("*"):
        assert not file.is_file() or HASH not in file.read_text(), file


@pytest.mark.parametrize("name", ["jupyterhub.json", "proxy.env", "idle-culler.env", "tls.json", "spawner-local.json"])
def test_what_holds_secrets_is_roots_alone(layout: Layout, name: str) -> None:
    assert stat.S_IMODE((rendered(layout).run / name).stat().st_mode) == 0o600


def test_limits_and_times_arrive_in_their_units(layout: Layout) -> None:
    rendered(layout)
    spawner = load(layout, "/run/hubsmith/spawner-local.json")
    assert (spawner["memory"], spawner["cpu"], spawner["start_timeout"]) == (2048 * MIB, 1.5, 120)
    assert "CULL_AFTER=7200\nCULL_EVERY=300\n" in layout.at("/run/hubsmith/idle-culler.env").read_text()
    server = load(layout, "/run/hubsmith/jupyter/jupyter_server_config.json")
    assert server["MappingKernelManager"]["cull_idle_timeout"] == 1800
    assert f"client_max_body_size {200 * MIB};" in layout.at("/run/hubsmith/nginx/site.conf").read_text()


def test_a_hub_without_a_domain_has_none_anywhere(layout: Layout) -> None:
    rendered(layout, SETTINGS.replace('domain = "hub.example.org"\n', ""))
    assert load(layout, "/run/hubsmith/tls.json")["domain"] is None
    assert load(layout, "/run/hubsmith/jupyterhub.json")["domain"] is None


def test_refused_settings_leave_only_the_status_page(layout: Layout) -> None:
    rendered(layout)
    layout.settings.write_text("[hub]\nadmin = 1\n")
    assert apply(layout).state == "refused"
    site = layout.at("/run/hubsmith/nginx/site.conf").read_text()
    assert "proxy.conf" not in site
    assert "return 503;" in site
    left = {str(file.relative_to(layout.run)) for file in layout.run.rglob("*") if file.is_file()}
    firewall = {"nftables/docker.nft", "nftables/metrics.nft", "nftables/ports.nft"}
    assert "accept" not in layout.at("/run/hubsmith/nftables/docker.nft").read_text().replace("no rule accepts", "")
    assert left <= {"apply.json", "apply.lock", "facts.json", "nginx/site.conf"} | firewall


def test_a_change_of_one_table_touches_only_its_readers(layout: Layout) -> None:
    rendered(layout)
    layout.settings.write_text(SETTINGS.replace('kernels_after = "30m"', 'kernels_after = "1h"'))
    assert apply(layout).changed == ("/run/hubsmith/jupyter/jupyter_server_config.json",)


def test_every_brace_of_nginx_is_closed_and_every_include_is_there() -> None:
    root = MODULES / "nginx" / "files"
    files = [*root.rglob("*.conf"), *(MODULES / "nginx" / "templates").glob("*.j2")]
    for file in files:
        text = re.sub(r"#.*|\{[{%].*?[}%]\}|\"[^\"]*\"", "", file.read_text())
        assert text.count("{") == text.count("}"), file
        for included in re.findall(r"include (/usr/share/\S+);", text):
            assert (root / included.lstrip("/")).is_file(), (file, included)


def test_error_pages_need_nothing_from_elsewhere() -> None:
    pages = list((MODULES / "nginx/files/usr/share/hubsmith/nginx/pages").glob("*.html"))
    assert len(pages) == 4
    for page in pages:
        text = page.read_text()
        assert "<!DOCTYPE html>" in text
        assert not re.search(r"(src|href)=[\"'](?!/)|<script", text), page


def test_units_of_the_hub_start_and_stop_with_its_target() -> None:
    units = list((MODULES / "jupyterhub/files/usr/lib/systemd/system").glob("*.service"))
    assert len(units) == 3
    for unit in units:
        text = unit.read_text()
        assert "\nPartOf=hubsmith-hub.target\n" in text
        assert text.endswith("[Install]\nWantedBy=hubsmith-hub.target\n")


@pytest.mark.parametrize("environment", ["jupyterhub", "notebook"])
def test_the_slow_import_is_really_shut_out(environment: str, tmp_path: Path) -> None:
    """In a site folder that has the package, as in the image: the import fails, which jsonschema expects."""
    source = MODULES / environment / "files/opt" / environment / "lib/python3.13/site-packages/hubsmith.pth"
    (tmp_path / "hubsmith.pth").write_text(source.read_text())
    (tmp_path / "rfc3987_syntax.py").write_text("")
    code = (
        f"import site; site.addsitedir({str(tmp_path)!r})\ntry: import rfc3987_syntax\nexcept ImportError: print('no')"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "no\n"


def test_a_machine_that_is_too_small_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    context = json.dumps({"settings": {}, "machine": {"memory": 700 * MIB}})
    monkeypatch.setattr("sys.stdin", io.StringIO(context))
    with pytest.raises(SystemExit, match=r"^700 MiB of memory are not enough for a hub: 832 are needed$"):
        spawner_local.main()
