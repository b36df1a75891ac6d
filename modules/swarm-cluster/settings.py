"""Settings of a deployment of several machines: their private network, and how they authenticate each other."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network, ip_address, ip_network
from typing import Annotated

from pydantic import AfterValidator

from hubsmith.settings.scalars import Label, Secret, Str
from hubsmith.settings.tables import Field, Findings, Table, provides, rule, table


def private_network(value: str) -> str:
    """Validate a private IPv4 network, such as ``10.77.0.0/24``."""
    try:
        network = IPv4Network(value)
    except ValueError:
        raise ValueError("not an IPv4 network: write its first address and its size, such as 10.77.0.0/24") from None
    if not network.is_private or not 8 <= network.prefixlen <= 30:
        raise ValueError("a private network is wanted: of 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16")
    return value


def address(value: str) -> str:
    """Validate an IPv4 address."""
    try:
        return str(IPv4Address(value))
    except ValueError:
        raise ValueError("not an IPv4 address") from None


def cluster_secret(value: str) -> str:
    """Validate a secret: enough random text that no one can guess it."""
    if not re.fullmatch(r"[\x21-\x7e]{32,128}", value):
        raise ValueError("32 to 128 random characters are wanted, such as from `openssl rand -hex 32`")
    return value


def cluster_key(value: str) -> str:
    """Validate the manager's private key."""
    from cryptography.exceptions import UnsupportedAlgorithm

    from hubsmith.settings.keys import load_private_key

    try:
        load_private_key(value)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValueError("not an Ed25519 private key in PEM: `openssl genpkey -algorithm ed25519` makes one") from None
    return value


def pin(value: str) -> str:
    """Validate a pin, the fingerprint of the manager's public key."""
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", value):
        raise ValueError("not a pin: `sha256:` and 64 hexadecimal digits; `hubsmith settings cluster` makes one")
    return value


PrivateNetwork = Annotated[Str, AfterValidator(private_network), Label("IPv4 network")]
Address = Annotated[Str, AfterValidator(address), Label("IPv4 address")]
ClusterSecret = Annotated[Str, AfterValidator(cluster_secret), Label("random text"), Secret()]
ClusterKey = Annotated[Str, AfterValidator(cluster_key), Label("PEM text"), Secret()]
Pin = Annotated[Str, AfterValidator(pin), Label("pin")]


@table("cluster")
class Cluster(Table):
    """The private network of a deployment of several machines, and how they authenticate each other."""

    network: PrivateNetwork | None = Field(
        default=None,
        description="The private network of the deployment's machines. Ports that the machines need among themselves "
        "are open to this network only. Machines are recognized by their addresses in it, which no one else may use.",
        examples=["10.77.0.0/24"],
    )
    manager: Address | None = Field(
        default=None,
        description="For workers: the address of the master in `network`. Only the settings of a worker have it.",
        examples=["10.77.0.10"],
    )
    secret: ClusterSecret | None = Field(
        default=None,
        repr=False,
        description="The secret with which a worker proves that it belongs to the deployment. It is the same on all "
        "machines. A new one on the master locks out all machines that have the old one, and ends all servers. In a "
        "file of `hosts/`: `${secret.cluster}`.",
        examples=["9d53…"],
    )
    key: ClusterKey | None = Field(
        default=None,
        repr=False,
        description="For the master: the private key (Ed25519) with which it authenticates to workers. In a file of "
        "`hosts/`: `${key.cluster}`.",
        examples=["-----BEGIN PRIVATE KEY-----\n…\n-----END PRIVATE KEY-----\n"],
    )
    pin: Pin | None = Field(
        default=None,
        description="For workers: the fingerprint of the master's public key. In a file of `hosts/`: `${pin.cluster}`.",
        examples=["sha256:4f1c…"],
    )


@rule("cluster")
def a_worker_knows_its_manager(cluster: Cluster) -> Findings:
    if cluster.manager is None:
        if cluster.pin is not None:
            yield "cluster.pin", "is for workers, which name their `cluster.manager`"
        return
    for key in ("network", "secret", "pin"):
        if getattr(cluster, key) is None:
            yield f"cluster.{key}", "needed by a worker (`cluster.manager` is set)"
    if cluster.key is not None:
        yield "cluster.key", "is for the master only: a worker that has it could pretend to be the master"
    if cluster.network and ip_address(cluster.manager) not in ip_network(cluster.network):
        yield "cluster.manager", "is not in `cluster.network`"


@provides("peers", "cluster")
def network_of_the_machines(cluster: Cluster) -> tuple[str, ...]:
    return (cluster.network,) if cluster.network else ()
