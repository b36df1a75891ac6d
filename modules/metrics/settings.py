"""Settings of the metrics."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Annotated

from pydantic import AfterValidator

from hubsmith.settings.scalars import Label, Str
from hubsmith.settings.tables import Field, Table, provides, table


def source_network(value: str) -> str:
    """Validate an IPv4 address, or a network such as ``192.0.2.0/28``."""
    try:
        network = IPv4Network(value)
    except ValueError:
        raise ValueError("neither an IPv4 address nor a network (its first address and its size)") from None
    if network.prefixlen < 8:
        raise ValueError("the network is too large: it must be a /8 or smaller")
    return str(network)


SourceNetwork = Annotated[Str, AfterValidator(source_network), Label("IPv4 network")]


@table("metrics")
class Metrics(Table):
    """Metrics of the machine and the hub for Prometheus."""

    allow: tuple[SourceNetwork, ...] = Field(
        default=(),
        description="Addresses of the Prometheus servers that may read the metrics. By default metrics are off.",
        examples=[["192.0.2.17", "10.77.0.0/24"]],
    )


@provides("scrapers", "metrics")
def networks_of_prometheus(metrics: Metrics) -> tuple[str, ...]:
    return metrics.allow
