"""Checks of every machine with metrics for Prometheus."""

from __future__ import annotations

import json
from typing import Any

Host = Any
URL = "http://127.0.0.1:9100/metrics"


def test_only_root_reads_them_on_the_machine_itself(host: Host) -> None:
    if not host.service("prometheus-node-exporter").is_running:
        return  # metrics.allow is empty
    assert "node_memory_MemAvailable_bytes" in host.check_output(f"curl --silent {URL}")
    assert host.run(f"runuser -u nobody -- curl --silent {URL}").rc == 7


def test_others_read_them_only_from_where_the_settings_say(host: Host) -> None:
    rules = json.loads(host.run("nft --json list chain inet hubsmith peers").stdout)["nftables"]
    opened = [one["rule"] for one in rules if "rule" in one and '"right": 9100' in json.dumps(one)]
    assert bool(opened) == host.service("prometheus-node-exporter").is_running
    assert all('"saddr"' in json.dumps(rule) for rule in opened)
