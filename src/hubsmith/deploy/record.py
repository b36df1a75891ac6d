"""Record of a deployment: a folder (0700) with its machines, addresses and secrets (0600).

A command may be killed, the host may crash and the disk may be full at any time. Therefore every file is replaced
atomically. A folder is renamed to a name that nothing reads before it is deleted. The next command that changes the
deployment cleans up.
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
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

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

#: File in a machine's folder: the definition and image that the machine was made with.
MACHINE = "machine.json"
#: Name prefix of a folder that is being deleted. No machine or deployment can have such a name.
TRASH = ".deleted-"
#: Seconds to wait for the lock. Children of a killed command hold it until they have started their program.
LOCK_WAIT = 2


class Record:
    """The folder of one deployment. New passwords, secrets and addresses stay in memory until :meth:`save`.

    :param name: name of the deployment.
    """

    def __init__(self, name: str) -> None:
        self.folder = state_dir() / "deployments" / name
        # Several threads, one per machine, read and add to the same secrets.
        self._mutex = threading.RLock()
        self._drafts: dict[str, dict[str, Any]] = {}

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the deployment's exclusive lock. Cleans up after a killed command first.

        :raises HubsmithError: another command holds the lock, or the disk is full.
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
            until = time.monotonic() + LOCK_WAIT
            while not _locked(lock):
                if time.monotonic() > until:
                    raise HubsmithError(
                        "another command is changing this deployment", where=self.folder.name,
                        hint="wait until it ends, then run the command again",
                    )  # fmt: skip
                time.sleep(0.05)
            yield

    def _tidy(self) -> None:
        for left in (*self.folder.glob(f"{TRASH}*"), self._trash, *self.folder.glob(".key.*")):
            shutil.rmtree(left, ignore_errors=True)
        for partial in (*self.folder.rglob("*.part"), *self.folder.rglob(".*.json.*")):
            partial.unlink(missing_ok=True)

    def _draft(self, name: str) -> dict[str, Any]:
        """Return a JSON file's content as it will be after :meth:`save`."""
        if name not in self._drafts:
            self._drafts[name] = self.read(name)
        return self._drafts[name]

    def save(self) -> None:
        """Write everything that was added since the last call."""
        with self._mutex:
            for name, content in self._drafts.items():
                if content != self.read(name):
                    self.write(name, content)

    def credentials(self, host: str, users: list[str]) -> dict[str, str]:
        """Return one-time passwords by user. Each is made once and kept, so that a repeated launch returns the same."""
        if not users:
            return {}
        mine = self._draft("credentials.json").setdefault(host, {})
        for user in users:
            mine.setdefault(user, one_time_password())
        return {user: mine[user] for user in users}

    def secret(self, name: str) -> str:
        """Return a secret of the deployment (256 bits). It is made at the first call and kept."""
        return str(self._draft("secrets.json").setdefault(name, secrets.token_urlsafe(32)))

    def private_key(self, name: str) -> str:
        """Return an Ed25519 private key of the deployment (PEM). It is made at the first call and kept."""
        known = self._draft("keys.json")
        if name not in known:
            known[name] = new_private_key()
        return str(known[name])

    def addresses(self, network: Network, machines: Iterable[str]) -> dict[str, str]:
        """Return an address on the private network for each machine. Addresses assigned earlier are kept.

        :raises HubsmithError: the network is too small.
        """
        known = self._draft("addresses.json")
        subnet = ipaddress.IPv4Network(network.cidr)
        mine = {name: one for name, one in known.items() if ipaddress.IPv4Address(one) in subnet}
        # The first nine are reserved for routers and the like.
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
        """Return a machine's settings.toml, and the one-time passwords by user.

        Addresses, secrets and the hashes of one-time passwords are filled in.

        :param addresses: address of each machine on the private network.
        :param root: project tree, which contains the image's definition.
        :raises SettingsError: the settings are invalid.
        :raises DefinitionError: the settings name an unknown machine, or the image does not exist.
        """
        with self._mutex:
            text, passwords = self._settings(name, host, addresses)
        parse(text.encode(), f"hosts.{name}.settings", schema_for(root, host.image, f"hosts.{name}.image"))
        return text, passwords

    def _sources(self, addresses: Mapping[str, str]) -> dict[str, Source]:
        """Return the functions that fill in `${…}` in the settings, by kind."""

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
        """Read a JSON file of the folder. Empty if the file does not exist."""
        path = self.folder / name
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}

    def write(self, name: str, content: dict[str, Any]) -> None:
        """Write a JSON file of the folder atomically, readable by its owner only."""
        self._make()
        path = self.folder / name
        path.parent.mkdir(mode=0o700, exist_ok=True)
        files.write(path, files.canonical(content), mode=0o600, durable=True)

    def machines(self) -> list[str]:
        """Return the names of all existing machines."""
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


def _locked(file: IO[str]) -> bool:
    """Lock a file unless another process holds it; return whether it is locked now."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_full(error: OSError | HubsmithError) -> bool:
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    # Messages of qemu-img, cp and ssh-keygen, and of xorriso.
    return any(words in error.what for words in (os.strerror(errno.ENOSPC), "exceeds free space on media"))


def _delete(folder: Path, trash: Path) -> None:
    """Delete a folder atomically: rename it first, so that no partly deleted folder is ever found under its name."""
    if folder.exists():
        shutil.rmtree(trash, ignore_errors=True)
        folder.rename(trash)
        files.sync(trash.parent)
    shutil.rmtree(trash, ignore_errors=True)
