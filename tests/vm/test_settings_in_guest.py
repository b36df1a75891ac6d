"""Settings that are missing or bad: the machine says so wherever somebody may look, and serves no hub."""

from __future__ import annotations

import base64
import html
import re
import sys
from pathlib import Path

import pytest
from hub_fixtures import Hub

from hubsmith.definition.schemas import schemas
from hubsmith.paths import project_root
from hubsmith.run import run
from hubsmith.settings.errors import SettingsError
from hubsmith.settings.load import parse
from hubsmith.vm.command import CONSOLE_LOG
from hubsmith.vm.console import plain
from hubsmith.vm.linux import Machine
from hubsmith.vm.machine import Snapshot
from hubsmith.vm.ssh import Done

pytestmark = [pytest.mark.vm, pytest.mark.modules("jupyterhub"), pytest.mark.reads("modules/*/settings.py")]

CASES = Path(__file__).parents[2] / "tests/unit/settings_bad"
#: One of each kind; the unit tests read all that there are. Each costs an emulated machine about 13 s.
BAD = ("empty", "many_problems", "not_utf8", "plain_password", "provided_expired", "syntax_open_string", "unknown_key")
SETTINGS = "/etc/hubsmith/settings.toml"
#: What makes a hub; none of them may run while the settings are refused.
HUB_UNITS = "hubsmith-hub.target jupyterhub.service configurable-http-proxy.service"
#: How many reasons the public page shows before it says how many more there are.
SHOWN = 5


def on_the_host(file: Path) -> str:
    """What `hubsmith settings check` prints on the laptop of whoever wrote the file."""
    done = run(
        [Path(sys.executable).with_name("hubsmith"), "settings", "check", file, "--image", "master"], check=False
    )
    assert done.returncode == 3, done
    return done.stdout.replace(str(file), SETTINGS)


def public(file: Path) -> list[str]:
    """The sentences that everybody may read."""
    with pytest.raises(SettingsError) as caught:
        parse(file.read_bytes(), SETTINGS, schemas(project_root(CASES))["master"])
    return [problem.public for problem in caught.value.problems]


def apply(machine: Machine, content: bytes) -> Done:
    """Write a settings file, whatever bytes it has, and apply it."""
    return machine.execute(
        f"base64 -d > {SETTINGS} && hubsmith apply", stdin=base64.b64encode(content).decode(), timeout=120
    )


def assert_nothing_is_served(machine: Machine, reasons: list[str]) -> None:
    """No unit of the hub runs; every address answers with the status page, which says why."""
    states = machine.execute(f"systemctl is-active {HUB_UNITS}").stdout.split()
    assert states == ["inactive"] * 3
    machine.wait_until(
        "the status page to give the reasons",
        lambda: all(reason in html.unescape(machine.get("/").text) for reason in reasons[:SHOWN]),
        30, interval=0.5,
    )  # fmt: skip
    for path in ("/", "/hub/login"):
        answer = machine.get(path)
        assert answer.status == 503
        assert "This hub is not set up yet" in answer.text


def test_bad_settings_are_refused_as_on_the_host_and_good_ones_open_the_hub_again(hub: Hub) -> None:
    good = hub.machine.succeed(f"cat {SETTINGS}").encode()
    for name in BAD:
        file = CASES / f"{name}.toml"
        applied = apply(hub.machine, file.read_bytes())
        assert applied.rc == 3, (name, applied)
        # The host counts the problems in the first line; then come the problems, each with a hint below it.
        refused = re.sub(r"^refused: ", "  ", applied.stderr, flags=re.MULTILINE)
        problems = on_the_host(file).partition("\n")[2]
        assert [line.strip() for line in refused.splitlines()] == [line.strip() for line in problems.splitlines()], name
        assert_nothing_is_served(hub.machine, public(file))
    assert hub.machine.execute("hubsmith settings check").stdout == on_the_host(file)
    assert apply(hub.machine, good).rc == 0
    hub.wait()
    assert hub.person("bob").request("GET", "/hub/api/user").json()["name"] == "bob"


def test_missing_settings_are_told_on_console_page_and_journal(bare_snapshot: Snapshot, bare: Machine) -> None:
    reason = "the file does not exist; cloud-init writes it from user-data (`write_files`)"
    told = f"hubsmith: refused: settings: {reason}"
    assert_nothing_is_served(bare, [reason])
    status = bare.execute("hubsmith status")
    assert status.rc == 1
    assert f"\nrefused: settings: {reason}" in status.stdout
    journal = bare.succeed("journalctl -b --no-pager -q -u hubsmith-apply.service -p err -o cat")
    assert f"refused: {SETTINGS}: {reason}" in journal
    assert told in bare.succeed("journalctl -b --no-pager -q -u hubsmith-status.service -o cat")
    assert bare.succeed("systemctl is-active hubsmith-apply.service") == "active\n", "refusing is no failure"
    # The line comes with the first report, which is made before or after the machine was frozen.
    before = plain((bare_snapshot.folder / CONSOLE_LOG).read_text(errors="replace"))
    bare.wait_until(
        "the console to say what is refused", lambda: told in before + plain(bare.console.text()), 60, interval=1
    )
    # It also stands above the login prompt from now on.
    assert told in bare.succeed("cat /run/issue.d/hubsmith.issue")
