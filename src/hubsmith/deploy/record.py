"""What is remembered of a deployment: a folder of its own (0700) with its secrets (0600).

A command may be killed, the host may crash and the disk may be full at any moment. So every file is replaced as a
whole, what is deleted first gets a name that nothing looks for, and the next command that changes the deployment tidies
up.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import ipaddress
import itertools
import json
import os
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

#: In a machine's folder: what the machine was made with.
MACHINE = "machine.json"
#: Begins the name of a folder that is being deleted. No machine and no deployment is called so.
TRASH = ".deleted-"


class Record:
    """The folder of one deployment. New passwords, secrets and addresses are in memory until :meth:`save`.

    :param name: of the deployment.
    """

    def __init__(self, name: str) -> None:
        self.folder = state_dir() / "deployments" / name
        # Several machines are asked at once, each in a thread, and what is made for one is kept for the others.
        self._mutex = threading.RLock()
        self._drafts: dict[str, dict[str, Any]] = {}

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else changes the deployment meanwhile. Tidies up what a killed command has left.

        :raises HubsmithError: somebody does, or the disk is full.
        """
        try:
            self._make()
            with self._only_one():
                self._tidy()
                self._drafts.clear()
                yield
        except (OSError, HubsmithError) as error:
            if not _is_full(error):
                raise
            raise HubsmithError(
                f"the disk is full: {str(error).splitlines()[-1]}", where=str(self.folder),
                hint="free some space, then run the command again",
            ) from error  # fmt: skip

    def _make(self) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.chmod(0o700)

    @contextmanager
    def _only_one(self) -> Iterator[None]:
        with (self.folder / ".lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise HubsmithError(
                    "another `hubsmith up` or `down` is at work on this deployment", where=self.folder.name,
                    hint="wait for its end, then run it again",
                ) from None  # fmt: skip
            yield

    def _tidy(self) -> None:
        for left in (*self.folder.glob(f"{TRASH}*"), self._trash, *self.folder.glob(".key.*")):
            shutil.rmtree(left, ignore_errors=True)
        for partial in (*self.folder.rglob("*.part"), *self.folder.rglob(".*.json.*")):
            partial.unlink(missing_ok=True)

    def _draft(self, name: str) -> dict[str, Any]:
        """A JSON file of the folder as it will be after :meth:`save`."""
        if name not in self._drafts:
            self._drafts[name] = self.read(name)
        return self._drafts[name]

    def save(self) -> None:
        """Write what was made since the last time."""
        with self._mutex:
            for name, content in self._drafts.items():
                if content != self.read(name):
                    self.write(name, content)

    def credentials(self, host: str, users: list[str]) -> dict[str, str]:
        """One-time passwords: made once per user and kept, so that a repeated launch hands out the same ones."""
        if not users:
            return {}
        mine = self._draft("credentials.json").setdefault(host, {})
        for user in users:
            mine.setdefault(user, one_time_password())
        return {user: mine[user] for user in users}

    def secret(self, name: str) -> str:
        """The deployment's secret of that name (256 bits); made when it is first asked for, and kept."""
        return str(self._draft("secrets.json").setdefault(name, secrets.token_urlsafe(32)))

    def private_key(self, name: str) -> str:
        """The deployment's Ed25519 private key of that name (PEM); made when it is first asked for, and kept."""
        known = self._draft("keys.json")
        if name not in known:
            known[name] = new_private_key()
        return str(known[name])

    def addresses(self, network: Network, machines: Iterable[str]) -> dict[str, str]:
        """An address on the private network for each machine; who has one keeps it.

        :raises HubsmithError: the network is too small.
        """
        known = self._draft("addresses.json")
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
        self._drafts["addresses.json"] = mine
        return dict(mine)

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
        hashes = self._draft("hashes.json")
        for user in bare:
            password = passwords[str(user.get("name"))]
            key = hashlib.sha256(password.encode()).hexdigest()
            if key not in hashes:  # a quarter of a second each
                hashes[key] = hash_password(password)
            user["password_hash"] = hashes[key]
        return tomli_w.dumps(filled), passwords

    def read(self, name: str) -> dict[str, Any]:
        """A JSON file of the folder; empty when there is none."""
        path = self.folder / name
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}

    def write(self, name: str, content: dict[str, Any]) -> None:
        """Write a JSON file of the folder, readable by its owner only, as a whole."""
        self._make()
        path = self.folder / name
        path.parent.mkdir(mode=0o700, exist_ok=True)
        files.write(path, files.canonical(content), mode=0o600, durable=True)

    def machines(self) -> list[str]:
        """The names of all machines that were made and not deleted."""
        return sorted(path.parent.name for path in self.folder.glob(f"[!.]*/{MACHINE}"))

    def forget_machine(self, name: str) -> None:
        """Delete a machine's folder with its disks."""
        _delete(self.folder / name, self.folder / f"{TRASH}{name}")

    def forget(self) -> None:
        """Delete the folder with all disks and secrets."""
        _delete(self.folder, self._trash)

    @property
    def _trash(self) -> Path:
        return self.folder.with_name(f"{TRASH}{self.folder.name}")


def _is_full(error: OSError | HubsmithError) -> bool:
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    # What qemu-img, cp and ssh-keygen say, and xorriso.
    return any(words in error.what for words in (os.strerror(errno.ENOSPC), "exceeds free space on media"))


def _delete(folder: Path, trash: Path) -> None:
    """Delete a folder so that nobody ever finds a part of it in its place."""
    if folder.exists():
        shutil.rmtree(trash, ignore_errors=True)
        folder.rename(trash)
        files.sync(trash.parent)
    shutil.rmtree(trash, ignore_errors=True)
