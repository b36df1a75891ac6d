"""The `qemu` target: machines on this computer that keep running after the command has ended."""

from __future__ import annotations

import enum
import ipaddress
import json
import os
import re
import shutil
import threading
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from hubsmith.deploy.hosts import Host, Network, located
from hubsmith.deploy.record import MACHINE, Record
from hubsmith.deploy.user_data import user_data
from hubsmith.errors import HubsmithError, ImageFailed
from hubsmith.files import settle, sync
from hubsmith.output import Output
from hubsmith.run import run
from hubsmith.settings.errors import SettingsError
from hubsmith.vm import Hardware, Instance, Machine, PersistentMachines, Volume
from hubsmith.vm.accel import require_tools
from hubsmith.vm.command import DISK, mac, volume_file
from hubsmith.vm.ssh import write_config
from hubsmith.vm.state_dir import Adopted
from hubsmith.vm.waits import wait_until

#: Key in records of earlier versions: the disk belongs to the previous machine and must be deleted.
RENEW = "renew"
#: Key in records: the modules of the image. Records of earlier versions do not have it.
MODULES = "modules"
#: Name of the deployment's private network.
LAN = "private"
Report = Callable[[str], None]
#: Several threads may make machines of the same image.
_pinning = threading.Lock()

#: Stages of a boot: console pattern and text for the user, in order.
STAGES = (
    (r"BdsDxe: starting", "the firmware starts the boot loader"),
    (r"\[ +\d+\.\d+\] |Welcome to ", "the kernel runs"),
    (r"cloud-init\[\d+\]: .* running 'init-local'", "the disk is set up; reading the metadata"),
    (r"cloud-init\[\d+\]: .* running 'init'", "the network is up"),
    (r" login:", "services are starting"),
)


class Replacing(enum.Enum):
    """What to do with a machine that is not as wanted."""

    NEVER = enum.auto()
    #: Replace it unless that would delete homes.
    KEEPING_HOMES = enum.auto()
    ALWAYS = enum.auto()


class QemuMachine:
    """One machine of a deployment.

    :param root: project tree, which contains ``out/<image>/``.
    :param network: the deployment's private network, if it has one.
    :param addresses: address of each machine on that network.
    :param source: hosts file that defines the machine, and the name of its host there.
    """

    def __init__(
        self, root: Path, record: Record, name: str, host: Host, network: Network | None = None,
        addresses: Mapping[str, str] | None = None, source: tuple[Path, str] | None = None,
    ) -> None:  # fmt: skip
        self.root, self.record, self.name, self.host, self.source = root, record, name, host, source
        self.addresses = addresses or {}
        self.nic = {"cidr": network.cidr, "mtu": network.mtu, "address": self.addresses[name]} if network else None
        self.folder = record.folder / name
        self.known = record.read(f"{name}/{MACHINE}")

    @classmethod
    def recorded(cls, root: Path, record: Record, name: str) -> QemuMachine:
        """Return a machine as recorded when it was made, even if it belongs to no host now."""
        wanted = record.read(f"{name}/{MACHINE}")["wanted"]
        machine = cls(root, record, name, Host.model_validate_json(json.dumps(wanted["host"])))
        machine.nic = wanted.get("nic")
        return machine

    # What is there

    @contextmanager
    def machine(self) -> Iterator[Machine]:
        """Open the machine as it was made, running or not. Closes all connections to it on exit.

        :raises HubsmithError: the machine does not exist.
        """
        if not self.known:
            raise HubsmithError("it does not exist", where=self.name, hint="hubsmith up FILE")
        with PersistentMachines(self.record.folder) as place:
            yield self._adopted(place)

    @contextmanager
    def running(self) -> Iterator[Machine]:
        """Open the machine like :meth:`machine`, and require that it runs.

        :raises HubsmithError: the machine does not run.
        """
        with self.machine() as machine:
            if not machine.running:
                raise HubsmithError("it does not run", where=self.name, hint="hubsmith up FILE")
            yield machine

    def ssh_config(self) -> Path:
        """Write a configuration for ``ssh`` and ``scp`` in which the machine has its name, and return its path.

        :raises HubsmithError: the machine does not run.
        """
        with self.running() as machine:
            return write_config(machine.folder, self.name, machine.port(22), machine.user, machine.key)

    def _adopted(self, place: PersistentMachines) -> Machine:
        wanted = self.known["wanted"]
        machine = self._machine(
            place,
            Host.model_validate_json(json.dumps(wanted["host"])),
            self._pinned(wanted["sha256"]),
            wanted["settings"],
            wanted.get("nic"),
        )
        machine.adopt()
        return machine

    def status(self) -> dict[str, str]:
        """Return the machine's row of `info`.

        The status is Up-to-date, Outdated (its definition or image has changed), Stopped or Missing.
        """
        row = self._row() | {"status": "Missing"}
        if not self.has_disk:
            return row
        if not (running := self._running()):
            return row | {"status": "Stopped"}
        return row | running | {"status": "Outdated" if self._changes() else "Up-to-date"}

    def obsolete(self) -> dict[str, str]:
        """Return the row of `info` for a machine that belongs to no host. The ID is empty if it does not run."""
        return self._row() | {"status": "Obsolete"} | self._running()

    def _row(self) -> dict[str, str]:
        address = str(self.nic["address"]) if self.nic else ""
        return {
            "name": self.name, "status": "", "type": f"qemu ({self.host.image})", "id": "", "ip": address, "url": "",
        }  # fmt: skip

    def _running(self) -> dict[str, str]:
        if not self.known or Adopted.find(self.folder) is None:
            return {}
        with self.machine() as machine:
            return {"id": str(machine.pid), "url": f"{machine.url}/"} if machine.running else {}

    @property
    def has_disk(self) -> bool:
        """Whether the machine's disk exists."""
        return bool(self.known) and RENEW not in self.known and (self.folder / DISK).exists()

    def holds(self) -> list[str]:
        """Return what deleting the machine would lose: homes on its system disk, and its volumes."""
        volumes = sorted(self.folder.glob(volume_file("*")))
        homes = ["the homes on its system disk"] if self._has_homes() else []
        return homes + [f"the volume {path.name.removeprefix('volume-').removesuffix('.qcow2')!r}" for path in volumes]

    def _has_homes(self) -> bool:
        # Ask the record, not the current image: a newer image may have no homes.
        wanted = self.known.get("wanted", {})
        if not self.has_disk or "homes" not in wanted.get(MODULES, ["homes"]):
            return False
        return not tomllib.loads(wanted["settings"]).get("data", {}).get("volume")

    @property
    def output(self) -> Output:
        """Current build output of the machine's image."""
        return Output.of(self.root, self.host.image)

    def _pinned(self, sha256: str) -> Path:
        return self.record.folder / f"{sha256}.qcow2"

    def _pin(self) -> str:
        """Link or copy the image into the deployment, so that a later build cannot delete the disk's backing file.

        :returns: SHA-256 of the image.
        """
        with _pinning:
            return self._pin_once()

    def _pin_once(self) -> str:
        image, sha256 = self.output.disk, self.output.sha256
        if not (pinned := self._pinned(sha256)).exists():
            partial = pinned.with_suffix(".part")
            partial.unlink(missing_ok=True)
            try:
                # A hard link is safe: builds never write to existing files.
                os.link(image, partial)
            except OSError:
                run(["cp", "--reflink=auto", "--sparse=always", image, partial])
            settle(partial, pinned)
        return sha256

    @cached_property
    def definition(self) -> dict[str, Any]:
        """Definition of the machine if it were made now. New secrets in it are not saved yet.

        :raises DefinitionError: the settings are invalid.
        """
        try:
            text, _ = self.record.settings(self.name, self.host, self.addresses, self.root)
        except SettingsError as error:
            raise (located(error, *self.source) if self.source else error) from None
        host = self.host.model_dump(mode="json", exclude={"settings", "count", "needs"})
        return {"host": host, "settings": text, "nic": self.nic}

    def _changes(self) -> list[str]:
        """Return how the existing machine differs from its current definition and image."""
        had, now = self.known["wanted"], self.definition
        names = {"host": "other hardware", "settings": "other settings", "nic": "another network"}
        found = [what for key, what in names.items() if had.get(key) != now[key]]
        try:
            if self.output.sha256 != had["sha256"]:
                found.append("another image")
        except HubsmithError:
            pass  # the output was deleted, so no newer image is known
        return found

    # Up and down

    def up(
        self,
        report: Report,
        *,
        wait: float,
        stop: threading.Event | None = None,
        replacing: Replacing = Replacing.NEVER,
    ) -> str:
        """Bring the machine up, and wait until its hub answers.

        A machine without a hub is ready when it reports so. A machine that runs as wanted is left alone.

        :param report: called with one line per step.
        :param wait: seconds for the boot.
        :param stop: ends the wait when set; the machine keeps running.
        :param replacing: what to do with an existing machine that is not as wanted.
        :returns: what was done.
        :raises HubsmithError: there is no suitable QEMU; or the machine exists with another image, other hardware or
            other settings and must not be replaced.
        :raises ImageFailed: the machine did not come up, or it rejected its settings.
        """
        self.prepare(replacing)
        self.record.save()
        with PersistentMachines(self.record.folder) as place:
            done = "is up already"
            if not self.has_disk or (changes := self._changes()):
                done = "replaced" if self.has_disk else "made"
                if done == "replaced":
                    report(f"to be replaced ({', '.join(changes)})")
                    report(self.down())
                self._make()
            machine = self._adopted(place)
            if not machine.running:
                done = "started" if done == "is up already" else done
                report(f"starting QEMU ({machine.accelerator.name})")
                machine.start()
            else:
                machine.plug_in()
                if machine.stalled:
                    report("continuing; the disk of this computer was full")
                    machine.go_on()
                machine.detach()
            self._wait(machine, report, wait, stop or threading.Event(), machine.started_at)
            return done

    def prepare(self, replacing: Replacing = Replacing.NEVER) -> None:
        """Check the preconditions of :meth:`up`. Writes nothing.

        :raises HubsmithError: see :meth:`up`.
        """
        require_tools()
        if not self.known and (self.folder / DISK).exists():
            raise HubsmithError(
                f"there is a disk without a record of its machine ({MACHINE})", where=str(self.folder),
                hint="move the folder away, then run the command again",
            )  # fmt: skip
        if self.has_disk:
            if not (changes := self._changes()):
                return
            self._may_be_replaced(changes, replacing)
        self.definition  # noqa: B018  checks the settings
        self.output.disk  # noqa: B018  checks that the image is built

    def _may_be_replaced(self, changes: Sequence[str], replacing: Replacing) -> None:
        why = f"it exists with {' and '.join(changes)}"
        if replacing is Replacing.NEVER:
            raise HubsmithError(
                why, where=self.name, hint="hubsmith deploy FILE   # a new machine that keeps its volumes"
            )
        if replacing is Replacing.KEEPING_HOMES and self._has_homes():
            raise HubsmithError(
                f"{why}, and its homes are on its system disk, which a new machine does not get (docs/operators/"
                "data-volume.md says how to have them on a volume)",
                where=self.name, hint="hubsmith deploy FILE --delete-homes   # deletes homes, passwords, certificate",
            )  # fmt: skip

    def _make(self) -> None:
        """Replace the machine by a new one that is not started yet. Only the volumes are kept.

        The disk is deleted first. If this is interrupted before, the old machine is unchanged. If it is interrupted
        after, the machine counts as not made yet.
        """
        modules = self.output.manifest.get("modules")
        wanted = {**self.definition, "sha256": self._pin(), **({} if modules is None else {MODULES: modules})}
        self.folder.mkdir(mode=0o700, exist_ok=True)
        (self.folder / DISK).unlink(missing_ok=True)
        sync(self.folder)
        kept = {MACHINE, *(path.name for path in self.folder.glob(volume_file("*")))}
        for path in self.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name not in kept:
                path.unlink()
        self.known = {"wanted": wanted}
        self.record.write(f"{self.name}/{MACHINE}", self.known)

    def reboot(self, report: Report, *, wait: float, stop: threading.Event | None = None) -> str:
        """Restart the guest in an orderly way, and wait until it is ready again.

        :param wait: seconds for the shutdown, and again for the boot.
        :param stop: ends the wait when set; the machine keeps running.
        :returns: what was done.
        :raises HubsmithError: the machine does not run.
        :raises ImageFailed: the machine did not come back.
        """
        stop = stop or threading.Event()
        with self.running() as machine:
            place = machine.console.size()
            report("restarting")
            machine.restart(wait, self._alive(machine, stop))
            self._wait(machine, report, wait, stop, place)
            return "restarted"

    def _machine(
        self, place: PersistentMachines, host: Host, image: Path, settings: str, nic: Mapping[str, Any] | None
    ) -> Machine:
        hardware = Hardware(
            memory_mb=host.memory_mb, cpus=host.cpus, firmware=host.firmware, disk_size_gb=host.disk_gb, durable=True,
            volumes=tuple(Volume(volume.name, volume.size_gb) for volume in host.volumes),
            forwards={22: host.ssh_port or 0, 80: 0, 443: host.https_port or 0}, lans=(LAN,) if nic else (),
        )  # fmt: skip
        network = cloud_network([mac(self.name, number) for number in range(2)], nic) if nic else {}
        instance = Instance(self.name, user_data=user_data(settings), network=network)
        return Machine(place, self.name, image, hardware, instance=instance)

    def _modules(self) -> list[str]:
        """Return the modules of the machine's image. Records of earlier versions do not name them."""
        return list(self.known["wanted"].get(MODULES, self.output.manifest.get("modules", ())))

    def _wait(self, machine: Machine, report: Report, wait: float, stop: threading.Event, since: int) -> None:
        stage, status, hub = 0, "", "jupyterhub" in self._modules()

        def answers() -> bool:
            nonlocal stage, status
            text = machine.console.text(since)
            reached = max((n for n, (mark, _) in enumerate(STAGES, 1) if re.search(mark, text)), default=0)
            if reached > stage:
                stage = reached
                report(STAGES[stage - 1][1])
            # The status that the machine prints on its console (module `status`).
            lines = re.findall(r"^hubsmith: (.+)$", text, re.MULTILINE)
            if lines and lines[-1] != status:
                status = lines[-1]
                report(status)
            if status.startswith("refused"):
                raise ImageFailed(f"the machine rejected its settings: {status}", where=self.name)
            if not hub:
                return status.startswith("ready")
            try:
                return machine.get("/hub/login", timeout=min(20, wait)).status == 200
            except OSError:
                return False

        def seen() -> str:
            last = f"status: {status}\n" if status else ""
            return f"{last}{machine.seen()}\nthe whole console: {machine.console.log}"

        alive = self._alive(machine, stop)
        wait_until(f"{self.name} to be ready", answers, timeout=wait, interval=1, alive=alive, seen=seen)

    def _alive(self, machine: Machine, stop: threading.Event) -> Callable[[], None]:
        def alive() -> None:
            if stop.is_set():
                raise HubsmithError("interrupted; the machine keeps running", where=self.name)
            machine.alive()
            if machine.stalled:
                raise HubsmithError(
                    "the machine has stopped: the disk of this computer is full", where=self.name,
                    hint="free some space, then run the command again",
                )  # fmt: skip

        return alive

    def down(self, *, orderly: bool = True, timeout: float = 120) -> str:
        """Switch the machine off.

        :param orderly: shut the guest down, and kill it only after ``timeout``. Otherwise cut the power, for a machine
            whose disks will be deleted.
        :param timeout: seconds for the guest to shut down.
        :returns: what was done.
        """
        if not self.known:
            return "does not exist"
        if Adopted.find(self.folder) is None:
            return "is not running"
        with self.machine() as machine:
            if not orderly:
                machine.kill()
                return "switched off"
            if machine.stalled:
                machine.go_on()
            began = time.monotonic()
            try:
                machine.shutdown(timeout)
            except ImageFailed:
                machine.kill()
                return f"did not switch itself off within {timeout:.0f} s and was killed"
            return f"stopped ({time.monotonic() - began:.0f} s)"

    def delete(self) -> None:
        """Delete a stopped machine's record and disks."""
        self.record.forget_machine(self.name)
        if self.nic:
            with PersistentMachines(self.record.folder) as place:
                place.lan(LAN).detach(self.name)


def cloud_network(macs: Sequence[str], nic: Mapping[str, Any]) -> dict[str, Any]:
    """Return OpenStack's ``network_data.json``: DHCP on the outside NIC, a fixed address on the private network.

    :param macs: MAC addresses of the outside NIC and of the NIC on the private network.
    :param nic: ``cidr``, ``address`` and ``mtu`` of the private network.
    """
    outside, private = ({"id": f"nic{n}", "type": "phy", "ethernet_mac_address": one} for n, one in enumerate(macs))
    inside = {
        "id": "private", "type": "ipv4", "link": private["id"], "ip_address": nic["address"],
        "netmask": str(ipaddress.IPv4Network(nic["cidr"]).netmask), "routes": [],
    }  # fmt: skip
    return {
        "links": [outside, {**private, "mtu": nic["mtu"]}],
        "networks": [{"id": "outside", "type": "ipv4_dhcp", "link": outside["id"]}, inside],
        "services": [],
    }
