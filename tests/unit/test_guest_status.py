"""The status: items from units, checks and the outcome of apply; the page, the file and the console line."""

from __future__ import annotations

import json
import os
import stat
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest

from hubsmith.guest import outcome
from hubsmith.guest.layout import Layout
from hubsmith.guest.machine import uptime
from hubsmith.guest.main import main
from hubsmith.guest.outcome import Outcome, Reason
from hubsmith.guest.status import items, page, report, service
from hubsmith.guest.status.items import Item, WatchedUnit
from hubsmith.guest.status.report import Report

HUB = WatchedUnit("hub", "jupyterhub.service", hub=True)
NGINX = WatchedUnit("nginx", "nginx.service", hub=False)
#: The grace for units to start is over.
GOOD = Outcome(outcome.GOOD, uptime=-3600)
#: However long ago this file was read.
JUST_NOW = Outcome(outcome.GOOD, uptime=1e12)
REFUSED = Outcome(outcome.REFUSED, (Reason("line 4: tls.email: needed", "secret detail"),))


def unit(active: str, sub: str = "", *, load: str = "loaded", job: str = "", result: str = "success") -> dict[str, str]:
    return {"LoadState": load, "ActiveState": active, "SubState": sub, "Job": job, "Result": result}


@pytest.mark.parametrize(
    ("watched", "found", "last", "state"),
    [
        (HUB, unit("active", "running"), GOOD, "ready"),
        (HUB, unit("reloading", "reload"), GOOD, "ready"),
        (HUB, unit("activating", "start"), GOOD, "starting"),
        (HUB, unit("activating", "auto-restart", result="exit-code"), GOOD, "failed"),
        (HUB, unit("failed", "failed", result="timeout"), GOOD, "failed"),
        (HUB, unit("failed", "failed"), REFUSED, "failed"),
        (HUB, unit("inactive", "dead", job="77"), GOOD, "starting"),
        (HUB, unit("inactive", "dead"), GOOD, "failed"),
        (HUB, unit("inactive", "dead"), JUST_NOW, "starting"),
        (HUB, unit("inactive", "dead"), Outcome(outcome.APPLYING), "starting"),
        (HUB, unit("inactive", "dead"), None, "starting"),
        (HUB, unit("inactive", "dead"), REFUSED, "refused"),
        (HUB, unit("inactive", "dead", load="not-found"), GOOD, "failed"),
        (NGINX, unit("inactive", "dead"), REFUSED, "failed"),
        (NGINX, unit("inactive", "dead"), None, "failed"),
        (NGINX, unit("activating", "start"), None, "starting"),
    ],
)
def test_units(watched: WatchedUnit, found: dict[str, str], last: Outcome | None, state: str) -> None:
    assert items.unit_item(watched, found, last).state == state


def test_the_settings_item_says_every_reason_and_no_detail() -> None:
    assert items.settings_item(None, {}).state == "starting"
    assert items.settings_item(GOOD, {}).state == "ready"
    assert items.settings_item(GOOD, {"ActiveState": "failed"}).state == "failed"
    item = items.settings_item(REFUSED, {})
    assert (item.state, item.why) == ("refused", "line 4: tls.email: needed")
    many = items.settings_item(Outcome(outcome.REFUSED, tuple(Reason(f"r{n}", "d") for n in range(8))), {})
    assert many.why == "r0; r1; r2; r3; r4; and 3 more"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('echo \'{"state": "ready", "why": "2 GiB free"}\'', Item("x", "ready", "2 GiB free")),
        ("echo ready", Item("x", "failed", "its check printed no valid answer")),
        ('echo \'{"state": "splendid", "why": ""}\'', Item("x", "failed", "its check printed no valid answer")),
        ('echo \'{"state": "ready", "why": 5}\'', Item("x", "failed", "its check printed no valid answer")),
        ("echo '[]'", Item("x", "failed", "its check printed no valid answer")),
        ("echo oops >&2; exit 1", Item("x", "failed", "its check did not run to its end")),
        ("sleep 30", Item("x", "failed", "its check did not run to its end")),
    ],
)
def test_checks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, expected: Item) -> None:
    monkeypatch.setattr(items, "CHECK_TIMEOUT", 0.5)
    check = tmp_path / "x"
    check.write_text(f"#!/bin/sh\n{body}\n")
    check.chmod(0o755)
    assert items.check_item(check) == expected


def test_the_clock_is_faulted_only_when_it_must_be_wrong(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    release = layout.at("/usr/lib/os-release")
    release.parent.mkdir(parents=True)
    release.touch()
    assert items.clock_item(layout).state == "ready"
    os.utime(release, (time.time() + 86400, time.time() + 86400))
    assert items.clock_item(layout).state == "failed"


def test_the_worst_item_makes_the_state() -> None:
    good, slow, bad = Item("a", "ready", "fine"), Item("b", "degraded", "slow"), Item("c", "failed", "gone")
    assert Report((good, good), 0, 0).line == "ready: everything is ready"
    assert Report((good, slow), 0, 0).line == "degraded: b: slow"
    assert Report((good, slow, bad), 0, 0).state == "failed"
    assert Report((bad, Item("settings", "refused", "no file")), 0, 0).state == "refused"


class Tags(HTMLParser):
    """Collects what a browser would fetch, and the text."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.fetched += [f"{tag} {name}" for name, _ in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("state", items.STATES)
def test_the_page_needs_nothing_else_and_escapes_what_it_shows(state: str) -> None:
    text = page.render(Report((Item("disk", state, "<script>alert(1)</script>"),), 0, 1.8e9))
    tags = Tags()
    tags.feed(text)
    assert tags.fetched == []
    assert "<script>alert(1)</script>" in tags.text
    assert "<script>" not in text
    assert "url(" not in text
    assert '<meta http-equiv="refresh"' in text
    assert page.TITLES[state] in tags.text


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path)
    for folder in (layout.checks, layout.run, layout.at("/var"), layout.at("/dev"), layout.at("/usr/lib")):
        folder.mkdir(parents=True, exist_ok=True)
    layout.at("/usr/lib/os-release").touch()
    layout.at("/dev/console").touch()
    return layout


def test_checks_run_when_something_changed_and_else_rarely(layout: Layout) -> None:
    check, log = layout.checks / "count", layout.root / "log"
    check.write_text(f'#!/bin/sh\necho >> {log}\necho \'{{"state": "ready", "why": ""}}\'\n')
    check.chmod(0o755)
    GOOD.save(layout.outcome)
    watch = service.Watch(layout)

    def runs(now: float) -> int:
        watch.look(now)
        return len(log.read_text())

    assert runs(1000) == 1
    assert watch.look(1001) is None
    assert watch.look(1014) is None
    assert runs(1015) == 1
    Outcome(outcome.APPLYING).save(layout.outcome)
    assert runs(1016) == 1
    REFUSED.save(layout.outcome)
    assert runs(1017) == 2
    assert watch.look(1021) is None
    assert runs(1022) == 2
    assert runs(1078) == 3


def test_checks_run_often_while_one_of_them_is_not_ready(layout: Layout) -> None:
    ran, good = layout.root / "ran", layout.root / "good"
    check = layout.checks / "nodes"
    check.write_text(
        f"#!/bin/sh\nprintf x >> {ran}\n[ -e {good} ] && s=ready || s=degraded\n"
        'echo "{\\"state\\": \\"$s\\", \\"why\\": \\"\\"}"\n'
    )
    check.chmod(0o755)
    GOOD.save(layout.outcome)
    watch, clock = service.Watch(layout), iter(range(1000, 2000))

    def runs(seconds: int) -> int:
        for _ in range(seconds):
            watch.look(next(clock))
        return len(ran.read_text())

    assert [runs(15), runs(6)] == [1, 2]
    good.touch()
    assert [runs(20), runs(45), runs(20)] == [3, 3, 4]


def test_checks_do_not_run_before_the_settings_are_applied(layout: Layout) -> None:
    check = layout.checks / "never"
    check.write_text(f"#!/bin/sh\ntouch {layout.root}/ran\n")
    check.chmod(0o755)
    made = service.Watch(layout).look(1000)
    assert made is not None
    assert made.items[1] == Item("never", "starting", "waits for the settings")
    assert not (layout.root / "ran").exists()


def test_a_change_of_state_is_one_line_on_the_console_and_above_the_prompt(layout: Layout) -> None:
    service.announce(layout, Report((Item("hub", "failed", "it's \\broken"),), 0, 0))
    line = "hubsmith: failed: hub: it's "
    assert layout.at("/dev/console").read_bytes() == f"\r\n{line}\\broken\r\n".encode()
    assert layout.at("/run/issue.d/hubsmith.issue").read_text() == f"{line}/broken\n"


def test_a_machine_without_a_console_is_no_reason_to_stop(layout: Layout) -> None:
    layout.at("/dev/console").unlink()
    service.announce(layout, Report((Item("hub", "ready", ""),), 0, 0))


def test_the_command_reads_the_last_report(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--root", str(layout.root), "status"]
    assert main(argv) == 1
    assert "has not reported yet" in capsys.readouterr().err
    REFUSED.save(layout.outcome)
    service.publish(
        layout, Report((Item("settings", "refused", "no file"), Item("nginx", "ready", "running")), uptime(), 0)
    )
    assert stat.S_IMODE((layout.status / "status.json").stat().st_mode) == 0o644
    assert main(argv) == 1
    out = capsys.readouterr().out
    assert out.startswith("settings  refused   no file\nnginx     ready     running\n\nrefused: settings: no file")
    assert ("secret detail" in out) == (os.geteuid() == 0)
    assert main([*argv, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["items"][1] == {"name": "nginx", "state": "ready", "why": "running"}
    service.publish(layout, Report((Item("nginx", "ready", "running"),), uptime(), 0))
    assert main(argv) == 0
    service.publish(layout, Report((Item("nginx", "ready", "running"),), uptime() - 120, time.time()))
    assert main(argv) == 1
    assert "is 120 s old" in capsys.readouterr().err


def test_the_clock_may_be_set_without_a_report_growing_old(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    for off in (-86400, 86400):
        path.write_text(json.dumps(Report((Item("a", "ready", ""),), uptime(), time.time() + off).as_json()))
        assert report.read(path).state == "ready"


def test_the_whole_look_of_a_refused_machine(layout: Layout) -> None:
    (layout.checks / "hub.toml").write_text('unit = "jupyterhub-that-is-nowhere.service"\nhub = true\n')
    REFUSED.save(layout.outcome)
    made = service.Watch(layout).look(time.monotonic())
    assert made is not None
    assert [item.name for item in made.items] == ["settings", "hub", "state disk", "clock"]
    assert made.state == "refused"
    assert made.line == "refused: settings: line 4: tls.email: needed"
