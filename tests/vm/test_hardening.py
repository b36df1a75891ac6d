"""The auditor lynis inside a hub: what it finds, and that each of its suggestions is answered on a page."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hub_fixtures import Hub
from lynis import package

pytestmark = [pytest.mark.vm, pytest.mark.modules("jupyterhub", "hardening"), pytest.mark.slow]

PAGE = Path(__file__).parents[2] / "docs/operators/hardening.md"
#: Hardening index, of 100.
LEAST = 85
#: Tests that cannot apply to any machine with a sealed root and a kernel for clouds. Each is answered on the page, too.
SKIPPED = {
    "USB-3000": "the kernel has no USB",
    "PKGS-7370": "dm-verity checks every byte of every package, when it is read",
    "PKGS-7420": "packages are upgraded by another image",
}
#: The certificates to look at. By default it is each of the authorities that Debian trusts, for minutes and no points.
CERTIFICATES = "/run/hubsmith/tls"
FOLDER = "/root/lynis"
#: lynis looks for its parts in its working directory.
AUDIT = f"""
set -e
mkdir -p {FOLDER}/plugins
cd {FOLDER}
base64 -d > lynis.deb
dpkg-deb --extract lynis.deb unpacked
mv unpacked/usr/sbin/lynis unpacked/usr/share/lynis/* unpacked/etc/lynis/default.prf .
printf '%s\\n' {" ".join(f"skip-test={test}" for test in SKIPPED)} ssl-certificate-paths={CERTIFICATES} > custom.prf
./lynis audit system --quick --no-colors --logfile {FOLDER}/log --report-file {FOLDER}/report > output
"""


def test_lynis_finds_little_and_the_page_answers_all_of_it(
    hub: Hub, record_property: Callable[[str, object], None]
) -> None:
    text = PAGE.read_text()
    answered = set(re.findall(r"^\| `([A-Z]+-\d{4})`", text, flags=re.MULTILINE))
    machine = hub.machine
    machine.succeed(AUDIT, timeout=900, stdin=base64.b64encode(package().read_bytes()).decode())
    report = machine.succeed(f"cat {FOLDER}/report")
    index = int(re.findall(r"^hardening_index=(\d+)$", report, flags=re.MULTILINE)[0])
    found = set(re.findall(r"^(?:suggestion|warning)\[\]=([^|]+)\|", report, flags=re.MULTILINE))
    log = machine.succeed(f"cat {FOLDER}/log")
    points, possible = re.findall(r"Currently having (\d+) points \(out of (\d+)\)", log)[-1]
    record_property("lynis", {"index": index, "suggestions": sorted(found)})
    assert len(re.findall(r"Performing test ID", log)) > 200, "it looked at little"
    assert found - {"LYNIS"} - answered == set(), "not on the page"
    assert SKIPPED.keys() <= answered
    assert index >= LEAST
    assert f"**{index}** of 100 ({points} of {possible} points)" in text
