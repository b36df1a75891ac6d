"""The machines of a deployment. Commands run on them in the order of `needs`, and in parallel within one step."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from hubsmith.deploy.hosts import Deployment, load_deployment
from hubsmith.deploy.qemu import LAN, QemuMachine, Replacing
from hubsmith.deploy.record import Record
from hubsmith.errors import HubsmithError
from hubsmith.threads import results
from hubsmith.vm import PersistentMachines
from hubsmith.words import nearest

T = TypeVar("T")
#: Machine counts set by `hubsmith scale`: by host, `machines` and the `file`'s count at that time.
COUNTS = "counts.json"
#: The hosts `file` that a deployment belongs to: relative to the project's `tree` if it lies there, else absolute.
OWNER = "deployment.json"
#: Threads. Each one mostly waits for an SSH connection.
AT_ONCE = 16


class Fleet:
    """The machines of one file of ``hosts/``.

    :param root: project tree.
    :param file: the deployment's file.
    :raises DefinitionError: the file is missing or invalid.
    :raises HubsmithError: the deployment of this name belongs to another file.
    """

    def __init__(self, root: Path, file: Path) -> None:
        self.root, self.file = root, file
        self.deployment: Deployment = load_deployment(file)
        self.record = Record(self.deployment.deployment.name)
        path, tree = file.resolve(), root.resolve()
        inside = path.is_relative_to(tree)
        self._owner = {"file": str(path.relative_to(tree) if inside else path), "tree": str(tree)}
        self._check_owner()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the deployment's record, and note that it belongs to this file.

        :raises HubsmithError: as :meth:`Record.locked`, or another file has made a deployment of this name meanwhile.
        """
        with self.record.locked():
            self._check_owner()
            if self.record.read(OWNER) != self._owner:
                self.record.write(OWNER, self._owner)
            yield

    def _check_owner(self) -> None:
        """Another file's machines would be obsolete ones of this file, and be deleted."""
        owner = self.record.read(OWNER)
        if not owner or owner["file"] == self._owner["file"] or not self.record.machines():
            return
        other = Path(owner["tree"]) / owner["file"]
        # A file that is gone was moved here, or this one takes its place.
        if other.exists() and not other.samefile(self.file):
            raise HubsmithError(
                f"the machines of the deployment {self.record.folder.name!r} belong to {other}",
                where=f"{self.file}: deployment.name",
                hint="choose another `deployment.name` in this file; if it replaces the other one, delete that one",
            )

    def hosts_of(self) -> dict[str, str]:
        """Return the wanted machines and the host of each, in start order."""
        return self.deployment.machines({name: one["machines"] for name, one in self._scaled().items()})

    def _scaled(self) -> dict[str, dict[str, int]]:
        """Return the entries of :data:`COUNTS` that still hold. If the file's `count` changed later, the file wins."""
        found = {}
        for name, one in self.record.read(COUNTS).items():
            if (host := self.deployment.hosts.get(name)) is not None and host.count is not None:
                # Earlier versions did not record the file's count. Their entries hold until the next change.
                known = one if isinstance(one, dict) else {"machines": one, "file": host.count}
                if known["file"] == host.count:
                    found[name] = known
        return found

    def notes(self) -> list[str]:
        """Return a line for each host whose count differs between `hubsmith scale` and the file: which one applies."""
        scaled, lines = self._scaled(), []
        for name, one in scaled.items():
            if one["machines"] != one["file"]:
                lines.append(
                    f"{name}: {one['machines']} machines, set by `hubsmith scale`; the file says count = {one['file']}"
                )
        for name, old in self.record.read(COUNTS).items():
            if name not in scaled and isinstance(old, dict) and (host := self.deployment.hosts.get(name)):
                lines.append(
                    f"{name}: the file wins with count = {host.count}, which was changed after `hubsmith scale` "
                    f"set {old['machines']} machines"
                )
        return lines

    def leftovers(self) -> list[str]:
        """Return a line for each obsolete machine: how to delete it."""
        return [
            f"{name}: obsolete, holds {' and '.join(held)}; `hubsmith down {self.file} {name} --delete` deletes it"
            if (held := one.holds()) else f"{name}: obsolete; `hubsmith deploy {self.file}` deletes it"
            for name, one in self.obsolete().items()
        ]  # fmt: skip

    def settle_counts(self) -> None:
        """Delete counts of `hubsmith scale` that the file overrules, and complete records of earlier versions."""
        if (scaled := self._scaled()) != self.record.read(COUNTS):
            self.record.write(COUNTS, scaled)

    def machines(self) -> dict[str, QemuMachine]:
        """Return the machines of :meth:`hosts_of`, in the same order."""
        names = self.hosts_of()
        network = self.deployment.network
        addresses = self.record.addresses(network, names) if network else {}
        return {
            name: QemuMachine(
                self.root, self.record, name, self.deployment.hosts[host], network, addresses, (self.file, host)
            )
            for name, host in names.items()
        }

    def obsolete(self) -> dict[str, QemuMachine]:
        """Return machines that exist but belong to no host: the host was renamed, or its count was lowered."""
        wanted = self.hosts_of()
        return {
            name: QemuMachine.recorded(self.root, self.record, name)
            for name in self.record.machines() if name not in wanted
        }  # fmt: skip

    def chosen(self, names: Iterable[str], *, obsolete: bool = False) -> dict[str, QemuMachine]:
        """Select machines by their own or their hosts' names. No names select all machines.

        :param obsolete: include obsolete machines.
        :raises HubsmithError: a name is unknown.
        """
        more = self.obsolete() if obsolete else {}
        machines, wanted = self.machines() | more, set(names)
        hosts = self.hosts_of() | {name: name for name in more}
        if unknown := sorted(wanted - machines.keys() - set(hosts.values())):
            known = {*machines, *hosts.values()}
            raise HubsmithError(f"no machine {unknown[0]!r}; {nearest(unknown[0], known)}", where=str(self.file))
        return {name: one for name, one in machines.items() if not wanted or {name, hosts[name]} & wanted}

    def waves(self, machines: Mapping[str, QemuMachine]) -> Iterator[dict[str, QemuMachine]]:
        """Yield the machines in start order. Machines of one step do not need each other."""
        hosts = self.hosts_of()
        for wave in self.deployment.waves():
            if step := {name: one for name, one in machines.items() if hosts.get(name) in wave}:
                yield step

    def up(
        self, report: Callable[[str, str], None], *, wait: float, replacing: Replacing = Replacing.NEVER,
        only: Iterable[str] = (),
    ) -> dict[str, tuple[str, float]]:  # fmt: skip
        """Bring machines up.

        Machines that already run as wanted are left alone. If machines may be replaced, obsolete ones are retired.

        :param report: called with a machine's name and one line, from several threads.
        :param wait: seconds for each boot.
        :param replacing: what to do with existing machines that are not as wanted.
        :param only: names of machines or hosts; by default all.
        :returns: for each machine, what was done and the seconds it took.
        :raises HubsmithError: a machine must not or cannot be brought up, and nothing was done; or a machine did not
            come up, and the machines that need it were not started.
        """
        chosen = self.chosen(only, obsolete=replacing is not Replacing.NEVER)
        obsolete, machines = self._split(chosen)
        for one in machines.values():
            one.prepare(replacing)
        self.settle_counts()
        self.retire(obsolete, report)
        done: dict[str, tuple[str, float]] = {}
        stop = threading.Event()

        def bring_up(name: str, one: QemuMachine) -> None:
            began = time.monotonic()
            what = one.up(lambda line: report(name, line), wait=wait, stop=stop, replacing=replacing)
            done[name] = what, round(time.monotonic() - began, 1)
            report(name, what)

        for wave in self.waves(machines):
            at_once(wave, bring_up, stop)
        self._forget_old_images()
        return done

    def _forget_old_images(self) -> None:
        """Delete pinned images that no machine uses."""
        machines = [*self.machines().values(), *self.obsolete().values()]
        wanted = {str(one.known["wanted"]["sha256"]) for one in machines if one.known}
        for image in self.record.folder.glob("*.qcow2"):
            if image.stem not in wanted:
                image.unlink()

    def reboot(self, machines: Mapping[str, QemuMachine], report: Callable[[str, str], None], *, wait: float) -> None:
        """Restart machines (:meth:`chosen`) in start order, and wait until they are ready.

        :param wait: seconds for each machine to stop, and again for each to become ready.
        :raises HubsmithError: a machine does not run, or did not come back.
        """
        stop = threading.Event()

        def restart(name: str, one: QemuMachine) -> None:
            report(name, one.reboot(lambda line: report(name, line), wait=wait, stop=stop))

        for wave in self.waves(machines):
            at_once(wave, restart, stop)

    def first_steps(self, urls: Mapping[str, str]) -> str:
        """Return a text for the operator: URLs, users, one-time passwords and the next commands.

        :param urls: URL of each machine; empty if the machine does not run.
        """
        lines = [
            f"log in at {urls[name] or f'{name} (not running)'} as {user} with the password {password}"
            for name, users in self.record.read("credentials.json").items() if name in urls
            for user, password in users.items()
        ]  # fmt: skip
        first = next(iter(urls))
        return "\n".join([
            *lines,
            "The certificate is self-signed: the browser will warn.",
            f"look inside:  hubsmith ssh {self.file} {first}",
            f"its console:  tail -f {self.record.folder / first / 'console.log'}",
            f"stop:         hubsmith down {self.file}",
            f"delete it:    hubsmith down {self.file} --delete",
        ])  # fmt: skip

    def down(
        self,
        report: Callable[[str, str], None],
        *,
        orderly: bool = True,
        only: Iterable[str] = (),
        delete: bool = False,
    ) -> None:
        """Switch machines off, in reverse start order.

        :param orderly: see :meth:`QemuMachine.down`.
        :param only: names of machines or hosts, including obsolete ones; by default all.
        :param delete: delete the machines with their disks and volumes.
        """
        obsolete, machines = self._split(self.chosen(only, obsolete=True))

        def switch_off(name: str, one: QemuMachine) -> None:
            report(name, one.down(orderly=orderly))
            if delete and one.known:
                one.delete()
                report(name, "deleted")

        if delete:
            at_once(obsolete, switch_off)
        else:
            self.retire(obsolete, report)
        for wave in reversed(list(self.waves(machines))):
            at_once(wave, switch_off)
        lan = self.record.folder / f"lan-{LAN}"
        if lan.exists() and not only:
            # No machine uses the private network any longer.
            with PersistentMachines(self.record.folder) as place:
                place.lan(LAN).end()

    def _split(self, chosen: Mapping[str, QemuMachine]) -> tuple[dict[str, QemuMachine], dict[str, QemuMachine]]:
        wanted = self.hosts_of()
        obsolete = {name: one for name, one in chosen.items() if name not in wanted}
        return obsolete, {name: one for name, one in chosen.items() if name in wanted}

    def retire(self, obsolete: Mapping[str, QemuMachine], report: Callable[[str, str], None]) -> None:
        """Switch obsolete machines off, and delete those without data."""

        def end(name: str, one: QemuMachine) -> None:
            report(name, one.down())
            if held := one.holds():
                report(
                    name, f"obsolete; keeps {' and '.join(held)}. To delete: hubsmith down {self.file} {name} --delete"
                )
            else:
                one.delete()
                report(name, "obsolete; deleted")

        at_once(obsolete, end)

    def scale(self, host: str, number: int, report: Callable[[str, str], None]) -> None:
        """Set the number of machines of a host.

        Surplus machines with the highest numbers are switched off. Those without data are deleted.

        :raises HubsmithError: the host is unknown or has no count.
        """
        hosts = self.deployment.hosts
        if host not in hosts:
            raise HubsmithError(f"no host {host!r}; {nearest(host, hosts)}", where=str(self.file))
        if (count := hosts[host].count) is None:
            raise HubsmithError("it is one machine; give it a `count` to have more", where=f"hosts.{host}")
        self.record.write(COUNTS, {**self._scaled(), host: {"machines": number, "file": count}})
        numbered = re.compile(rf"{re.escape(host)}-\d+")
        self.retire({name: one for name, one in self.obsolete().items() if numbered.fullmatch(name)}, report)


def at_once(
    machines: Mapping[str, QemuMachine], work: Callable[[str, QemuMachine], T], stop: threading.Event | None = None
) -> dict[str, T]:
    """Call a function for several machines in parallel threads.

    :param stop: set if a call fails or the command is interrupted, so that the other calls end early.
    :returns: the result for each machine, in the given order.
    :raises HubsmithError: error of the first call that failed, raised after all calls have ended.
    """
    with ThreadPoolExecutor(min(AT_ONCE, len(machines)) or 1) as pool, _ending(stop):
        futures = {name: pool.submit(work, name, one) for name, one in machines.items()}
        return dict(zip(futures, results(futures.values()), strict=True))


@contextmanager
def _ending(stop: threading.Event | None) -> Iterator[None]:
    try:
        yield
    except BaseException:
        if stop is not None:
            stop.set()
        raise
