"""Checks of every machine that applies settings."""

from __future__ import annotations

from typing import Any

Host = Any


def test_the_settings_were_applied_at_boot(host: Host) -> None:
    unit = host.run("systemctl show --property=ActiveState,Result hubsmith-apply.service").stdout
    assert "ActiveState=active" in unit
    assert "Result=success" in unit


def test_secrets_are_for_root_only(host: Host) -> None:
    for path, mode in (
        ("/etc/hubsmith/settings.toml", 0o600),
        ("/var/lib/hubsmith/kept/secrets.json", 0o600),
        ("/run/hubsmith/apply.json", 0o600),
    ):
        file = host.file(path)
        if path == "/etc/hubsmith/settings.toml" and not file.exists:
            continue  # without settings the state is `refused`, which is no failure
        assert (file.user, file.group, file.mode) == ("root", "root", mode), path


def test_the_hub_runs_only_with_good_settings(host: Host) -> None:
    good = '"state": "good"' in host.file("/run/hubsmith/apply.json").content_string
    active = host.run("systemctl is-active hubsmith-hub.target").stdout.strip() == "active"
    assert active == good


def test_no_secret_is_in_the_journal_or_in_an_argument(host: Host) -> None:
    script = (
        "import json, subprocess\n"
        "from pathlib import Path\n"
        "secrets = json.loads(Path('/var/lib/hubsmith/kept/secrets.json').read_text())\n"
        "command = ['journalctl', '--namespace=*', '-b', '-o', 'export']\n"
        "journal = subprocess.run(command, capture_output=True, check=True).stdout\n"
        "lines = [p.read_bytes() for p in Path('/proc').glob('[0-9]*/cmdline')]\n"
        "print([n for n, s in secrets.items() if s.encode() in journal or any(s.encode() in line for line in lines)])\n"
    )
    done = host.run("python3 -I -c %s", script)
    assert (done.rc, done.stdout.strip()) == (0, "[]"), done.stderr
