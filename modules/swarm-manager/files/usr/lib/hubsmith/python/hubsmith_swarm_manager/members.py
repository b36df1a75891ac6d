"""The machines that have proved that they have the deployment's secret.

The manager opens its ports to their addresses only. They are valid for one secret: with a new one, no machine is a
member until it has proved that it has the new secret.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from hubsmith.guest.files import write
from hubsmith.guest.programs import run
from hubsmith_swarm_cluster.protocol import PORT

#: It is kept when the machine is replaced: NFS clients can reclaim their locks only in the first seconds.
FILE = Path("/var/lib/hubsmith/kept/cluster.json")
TABLE = "ip hubsmith_members"
#: Seconds after its last proof until a machine is no member any more. Workers send one every minute.
FORGET = 3600


class Members:
    """Addresses of the machines that have proved that they have the secret.

    :param clock: returns seconds.
    :ivar in_effect: whether the file is about this secret. If not, the secret is a new one.
    """

    def __init__(self, secret: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # Only to recognize the secret.
        self._digest = hmac.new(secret.encode(), b"hubsmith-members-1", hashlib.sha256).hexdigest()
        known = _read()
        self.in_effect = known.get("secret") == self._digest
        self._seen = dict.fromkeys(known["addresses"] if self.in_effect else (), clock())

    @property
    def addresses(self) -> list[str]:
        return sorted(self._seen)

    def admit(self, address: str) -> None:
        """Open the firewall for a machine that has sent a proof, and close it for those that no longer do."""
        now = self._clock()
        seen = {one: at for one, at in self._seen.items() if now - at <= FORGET} | {address: now}
        if seen.keys() != self._seen.keys():
            self._write(seen)
        # Each time: an apply that runs meanwhile may have read the file before this change.
        let_in(seen)
        self._seen = seen

    def save(self) -> None:
        """Put the secret into effect: flush it to disk, with its members."""
        self._write(self._seen)
        self.in_effect = True

    def _write(self, addresses: Iterable[str]) -> None:
        content = {"secret": self._digest, "addresses": sorted(addresses)}
        write(FILE, json.dumps(content) + "\n", mode=0o600, durable=True)


def _read() -> dict[str, Any]:
    """Return the file's content. A damaged file is like none: the Swarm is replaced."""
    try:
        return dict(json.loads(FILE.read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return {}


def let_in(addresses: Collection[str]) -> None:
    """Replace the addresses in the firewall, in one transaction."""
    lines = [f"flush set {TABLE} members"]
    if addresses:
        lines.append(f"add element {TABLE} members {{ {', '.join(sorted(addresses))} }}")
    run("nft", "--file", "-", stdin="\n".join(lines) + "\n")


def firewall(ports: Iterable[Mapping[str, Any]] | None, addresses: Collection[str]) -> None:
    """Close the ports for peers, except that of the join service, to all but some addresses.

    The table comes before the one that opens ports (`modules/hardening`), and also ends existing connections.

    :param ports: ports of all modules; None removes the table.
    """
    rules = [
        # Packets of this machine to itself do not come from outside.
        f"\t\tiifname != lo ip saddr != @members {one['protocol']} dport {one['number']} drop"
        for one in ports or ()
        if one["audience"] == "peers" and one["number"] != PORT
    ]
    table = [
        f"table {TABLE} {{", "\tset members {", "\t\ttype ipv4_addr", "\t}", "\tchain input {",
        "\t\ttype filter hook input priority filter - 1; policy accept;", *rules, "\t}", "}",
    ]  # fmt: skip
    if addresses:
        table.append(f"add element {TABLE} members {{ {', '.join(sorted(addresses))} }}")
    # `delete` fails if there is no table, and there is no other command that older kernels know.
    whole = [f"table {TABLE}", f"delete table {TABLE}", *(table if ports is not None else ())]
    run("nft", "--file", "-", stdin="\n".join(whole) + "\n")
