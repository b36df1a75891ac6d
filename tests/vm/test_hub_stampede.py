"""A class begins: twenty people log in and start their servers at once."""

from __future__ import annotations

import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hub_client import HubClient, NotServed
from hub_fixtures import Hub, start
from people import PASSWORD, settings

from hubsmith.vm.hardware import Hardware
from hubsmith.vm.testbed import Testbed

pytestmark = [pytest.mark.vm, pytest.mark.modules("jupyterhub"), pytest.mark.slow]

CLASS = [f"student{number:02}" for number in range(20)]
#: What a person may be told instead of being served.
EXCUSES = ("not enough memory left", "try again")


@pytest.mark.parametrize(
    ("memory_mb", "all_served"), [(6144, True), (2560, False)], ids=["enough memory", "too little"]
)
def test_twenty_at_once(testbed: Testbed, image: Path, memory_mb: int, all_served: bool) -> None:
    text = settings(
        ("teacher", *CLASS), hub={"concurrent_spawn_limit": 20}, spawner={"memory": "512M", "start_timeout": "50m"}
    )
    hardware = Hardware(memory_mb=memory_mb, disk_size_gb=20)
    hub = Hub(start(testbed, image, f"class-{memory_mb}", text, hardware))
    took: list[float] = []
    excuses: list[str] = []

    def student(name: str) -> None:
        started = time.monotonic()
        client = HubClient(hub.machine.url, name, timeout=3000).login(PASSWORD)
        try:
            client.spawn(3000)
        except NotServed as error:
            assert any(excuse in str(error) for excuse in EXCUSES), str(error)[:500]
            excuses.append(name)
        else:
            assert client.api("GET", "contents")["type"] == "directory"
            took.append(time.monotonic() - started)

    with ThreadPoolExecutor(len(CLASS)) as everybody:
        list(everybody.map(student, CLASS))
    print(
        f"{len(took)} served, {len(excuses)} told why; median {statistics.median(took):.0f} s, last {max(took):.0f} s"
    )
    assert len(took) + len(excuses) == len(CLASS)
    assert bool(excuses) != all_served
    assert len(took) >= 5
    assert "out of memory" not in hub.machine.journal(lines=100_000).lower()
    assert hub.machine.get("/hub/login").status == 200
    states = hub.machine.execute("systemctl is-active jupyterhub nginx configurable-http-proxy").stdout
    assert states.split() == ["active"] * 3
    hub.machine.discard()
