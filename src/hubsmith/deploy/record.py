"""What is remembered of a deployment: a folder of its own (0700) with its secrets (0600)."""

from __future__ import annotations

import fcntl
import hashlib
import ipaddress
import itertools
import json
import secrets
import shutil
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tomli_w

from hubsmith import files
from hubsmith.definition.schemas import schema_for
from hubsmith.deploy.hosts import Host, Network
from hubsmith.deploy.values import Source, fill
from hubsmith.errors import HubsmithError
from hubsmith.paths import state_dir
from hubsmith.settings.keys import new_private_key, pin_of
from hubsmith.settings.load import parse
from hubsmith.settings.passwords import hash_password, one_time_password
from hubsmith.words import nearest


class Record:
    """The folder of one deployment.

    :param name: of the deployment.
    """

    def __init__(self, name: str) -> None:
        self.folder = state_dir() / "deployments" / name
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        # Several machines are asked at once, each in a thread, and what is made for one is kept for the others.
        self._mutex = threading.Lock()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else changes the deployment meanwhile.

        :raises HubsmithError: somebody does.
        """
        with (self.folder / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise HubsmithError(
                    "another `hubsmith up` or `down` is at work on this deployment", where=self.folder.name,
                    mend="wait for its end, then run it again",
                ) from None  # fmt: skip
            yield

    def credentials(self, host: str, users: list[str]) -> dict[str, str]:
        """One-time passwords: made once per user and kept, so that a repeated launch hands out the same ones."""
        known = self.read("credentials.json")
        mine = known.setdefault(host, {})
        for user in users:
            mine.setdefault(user, one_time_password())
        self.write("credentials.json", known)
        return {user: mine[user] for user in users}

    def secret(self, name: str) -> str:
        """The deployment's secret of that name (256 bits); made when it is first asked for, and kept."""
        known = self.read("secrets.json")
        if name not in known:
            known[name] = secrets.token_urlsafe(32)
            self.write("secrets.json", known)
        return str(known[name])

    def private_key(self, name: str) -> str:
        """The deployment's Ed25519 private key of that name (PEM); made when it is first asked for, and kept."""
        known = self.read("keys.json")
        if name not in known:
            known[name] = new_private_key()
            self.write("keys.json", known)
        return str(known[name])

    def addresses(self, network: Network, machines: Iterable[str]) -> dict[str, str]:
        """An address on the private network for each machine; who has one keeps it.

        :raises HubsmithError: the network is too small.
        """
        known = self.read("addresses.json")
        subnet = ipaddress.IPv4Network(network.cidr)
        mine = {name: one for name, one in known.items() if ipaddress.IPv4Address(one) in subnet}
        # The first ones are left to routers and the like.
        free = (str(one) for one in itertools.islice(subnet.hosts(), 9, None))
        for name in machines:
            if name not in mine:
                taken = set(mine.values())
                if (one := next((one for one in free if one not in taken), None)) is None:
                    raise HubsmithError("the private network has no address left", where=f"network.cidr {network.cidr}")
                mine[name] = one
        if mine != known:
            self.write("addresses.json", mine)
        return mine

    def settings(self, name: str, host: Host, addresses: Mapping[str, str], root: Path) -> tuple[str, dict[str, str]]:
        """The host's settings.toml with addresses, secrets and hashes of one-time passwords filled in, and those
        passwords by user.

        :param addresses: of all machines on the private network.
        :param root: the project's tree, which has the image that the settings are for.
        :raises SettingsError: the settings are wrong.
        :raises DefinitionError: they name a machine that is not there, or there is no such image.
        """
        with self._mutex:
            text, passwords = self._settings(name, host, addresses)
        parse(text.encode(), f"hosts.{name}.settings", schema_for(root, host.image, f"hosts.{name}.image"))
        return text, passwords

    def _sources(self, addresses: Mapping[str, str]) -> dict[str, Source]:
        """What `${…}` in the settings may name."""

        def address(machine: str) -> str:
            if machine not in addresses:
                raise LookupError(f"no machine {machine!r}; {nearest(machine, addresses)}")
            return addresses[machine]

        return {
            "address": address, "secret": self.secret, "key": self.private_key,
            "pin": lambda name: pin_of(self.private_key(name)),
        }  # fmt: skip

    def _settings(self, name: str, host: Host, addresses: Mapping[str, str]) -> tuple[str, dict[str, str]]:
        filled = fill(host.settings, self._sources(addresses), f"hosts.{name}.settings")
        bare = [
            user
            for user in filled.get("users", [])
            if isinstance(user, dict) and not ({"password_hash", "ssh_keys"} & user.keys())
        ]
        passwords = self.credentials(name, [str(user.get("name")) for user in bare])
        hashes = self.read("hashes.json")
        for user in bare:
            password = passwords[str(user.get("name"))]
            key = hashlib.sha256(password.encode()).hexdigest()
            if key not in hashes:  # a quarter of a second each
                hashes[key] = hash_password(password)
            user["password_hash"] = hashes[key]
        self.write("hashes.json", hashes)
        return tomli_w.dumps(filled), passwords

    def read(self, name: str) -> dict[str, Any]:
        """A JSON file of the folder; empty when there is none."""
        path = self.folder / name
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}

    def write(self, name: str, content: dict[str, Any]) -> None:
        """Write a JSON file of the folder, readable by its owner only, as a whole."""
        path = self.folder / name
        path.parent.mkdir(mode=0o700, exist_ok=True)
        files.write(path, files.canonical(content), mode=0o600, durable=True)

    def forget(self) -> None:
        """Delete the folder with all disks and secrets."""
        shutil.rmtree(self.folder)
