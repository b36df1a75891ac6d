"""This machine's address in the deployment's network, and its way to the others."""

from __future__ import annotations

import json
from ipaddress import ip_address, ip_network

from hubsmith.guest.programs import Failed, run


def own_link(network: str) -> tuple[str, int]:
    """Return the machine's address in a network, and the MTU of its interface in bytes.

    :raises Failed: the machine has no address in the network, or several.
    """
    links = json.loads(run("ip", "-json", "-4", "address", "show", "up"))
    found = [(str(one["local"]), int(link["mtu"])) for link in links for one in link["addr_info"]]
    mine = [one for one in found if ip_address(one[0]) in ip_network(network)]
    if len(mine) != 1:
        there = ", ".join(address for address, _ in found)
        raise Failed(f"{len(mine)} of this machine's addresses ({there}) are in cluster.network {network}")
    return mine[0]


def check_way(peer: str, own: str) -> None:
    """Check that packets to a machine of the deployment take the interface with this machine's address in its network.

    :raises Failed: they take another one.
    """
    route = json.loads(run("ip", "-json", "route", "get", peer))[0]
    if route.get("prefsrc") != own:
        raise Failed(
            f"packets to {peer} leave by {route.get('dev')} from {route.get('prefsrc')}, not from this machine's "
            f"address in cluster.network, {own}: `ip route get {peer}` shows the route"
        )
