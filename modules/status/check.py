"""Checks of every machine that reports its status."""

from __future__ import annotations

import json
from typing import Any

Host = Any


def test_the_status_service_reports(host: Host) -> None:
    assert host.service("hubsmith-status").is_running
    report = json.loads(host.run("hubsmith status --json").stdout)
    assert report["items"][0]["name"] == "settings"
    assert report["state"] in ("ready", "starting", "degraded", "failed", "refused")


def test_the_exit_code_says_whether_all_is_ready(host: Host) -> None:
    done = host.run("hubsmith status")
    assert (done.rc == 0) == ("\nready: " in done.stdout)


def test_the_public_files_name_no_user(host: Host) -> None:
    members = host.group("hubusers").members
    for name in ("status.json", "index.html"):
        file = host.file(f"/run/hubsmith/status/{name}")
        assert file.mode == 0o644
        words = set(file.content_string.replace('"', " ").replace("/", " ").split())
        assert not words & set(members)


def test_the_page_needs_no_other_file(host: Host) -> None:
    page = host.file("/run/hubsmith/status/index.html").content_string
    assert "src=" not in page
    assert "href=" not in page


def test_the_line_above_the_login_prompt_is_there(host: Host) -> None:
    assert host.file("/run/issue.d/hubsmith.issue").content_string.startswith("hubsmith: ")
