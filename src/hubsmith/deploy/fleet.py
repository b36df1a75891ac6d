"""All machines of a deployment, and what is done to all of them: in the order that they need, at once where none."""

from __future__ import annotations

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
from hubsmith.vm import Lasting
from hubsmith.words import nearest

T = TypeVar("T")
#: How many hosts had when they were scaled.
COUNTS = "counts.json"
#: Machines that are asked at once; each is a thread that waits for an SSH connection.
AT_ONCE = 16


class Fleet:
    """The machines of one file of ``hosts/``.

    :param root: the project's tree.
    :param file: the deployment.
    :raises DefinitionError: the file is missing or wrong.
    """

    def __init__(self, root: Path, file: Path) -> None:
        self.root, self.file = root, file
        self.deployment: Deployment = load_deployment(file)
        self.record = Record(self.deployment.deployment.name)

    def hosts_of(self) -> dict[str, str]:
        """Every machine that should be there, and the host whose it is, in the order of bringing them up."""
        return self.deployment.machines({name: int(number) for name, number in self.record.read(COUNTS).items()})

    def machines(self) -> dict[str, QemuMachine]:
        """The machines of :meth:`hosts_of`, in their order."""
        names = self.hosts_of()
        network = self.deployment.network
        addresses = self.record.addresses(network, names) if network else {}
        return {
            name: QemuMachine(self.root, self.record, name, self.deployment.hosts[host], network, addresses)
            for name, host in names.items()
        }

    def chosen(self, names: Iterable[str]) -> dict[str, QemuMachine]:
        """Some machines, by their own names or those of their hosts; without names all.

        :raises HubsmithError: there is none of such a name.
        """
        machines, hosts, wanted = self.machines(), self.hosts_of(), set(names)
        if unknown := sorted(wanted - machines.keys() - set(hosts.values())):
            known = {*machines, *hosts.values()}
            raise HubsmithError(f"no machine {unknown[0]!r}; {nearest(unknown[0], known)}", where=str(self.file))
        return {name: one for name, one in machines.items() if not wanted or {name, hosts[name]} & wanted}

    def waves(self, machines: Mapping[str, QemuMachine]) -> Iterator[dict[str, QemuMachine]]:
        """The machines in the order that they need; those of one step do not need each other."""
        hosts = self.hosts_of()
        for wave in self.deployment.waves():
            if step := {name: one for name, one in machines.items() if hosts.get(name) in wave}:
                yield step

    def up(
        self, say: Callable[[str, str], None], *, wait: float, replacing: Replacing = Replacing.NEVER,
        only: Iterable[str] = (),
    ) -> dict[str, tuple[str, float]]:  # fmt: skip
        """Bring machines up; whoever is up as wanted is left alone.

        :param say: gets a machine's name and one line, from several threads.
        :param wait: seconds for each boot.
        :param replacing: what to do with those that are there and are not as wanted.
        :param only: names of machines or hosts; without any it is all of them.
        :returns: what was done with each machine, and in how many seconds.
        :raises HubsmithError: one did not come up; those that need it were not started.
        """
        machines = self.chosen(only)
        for one in machines.values():
            one.definition  # noqa: B018  before anything is started all settings are checked, and secrets are made
        done: dict[str, tuple[str, float]] = {}
        stop = threading.Event()

        def bring_up(name: str, one: QemuMachine) -> None:
            began = time.monotonic()
            what = one.up(lambda line: say(name, line), wait=wait, stop=stop, replacing=replacing)
            done[name] = what, round(time.monotonic() - began, 1)
            say(name, what)

        for wave in self.waves(machines):
            at_once(wave, bring_up, stop)
        self._forget_old_images()
        return done

    def _forget_old_images(self) -> None:
        """Delete the images that no machine is made of any more."""
        wanted = {str(one.known["wanted"]["sha256"]) for one in self.machines().values() if one.known}
        for image in self.record.folder.glob("*.qcow2"):
            if image.stem not in wanted:
                image.unlink()

    def reboot(self, machines: Mapping[str, QemuMachine], say: Callable[[str, str], None], *, wait: float) -> None:
        """Restart machines (:meth:`chosen`), in the order that they need, and wait until they are ready.

        :param wait: seconds for each of them to go down and for each to come back.
        :raises HubsmithError: one does not run or did not come back.
        """
        stop = threading.Event()

        def restart(name: str, one: QemuMachine) -> None:
            say(name, one.reboot(lambda line: say(name, line), wait=wait, stop=stop))

        for wave in self.waves(machines):
            at_once(wave, restart, stop)

    def first_steps(self, urls: Mapping[str, str]) -> str:
        """Where and as whom to log in, and what to do next.

        :param urls: the machines, and where each answers; empty for one that does not run.
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

    def down(self, say: Callable[[str, str], None], *, orderly: bool = True) -> None:
        """Switch all of them off, the last ones first.

        :param orderly: as in :meth:`QemuMachine.down`.
        """
        for wave in reversed(list(self.waves(self.machines()))):
            at_once(wave, lambda name, one: say(name, one.down(orderly=orderly)))
        if self.deployment.network:
            # It goes on for nobody.
            with Lasting(self.record.folder) as place:
                place.lan(LAN).end()

    def scale(self, host: str, number: int, say: Callable[[str, str], None]) -> None:
        """Change how many machines a host has; the last ones go, with their disks.

        :raises HubsmithError: there is no such host, or it has no count.
        """
        hosts = self.deployment.hosts
        if host not in hosts:
            raise HubsmithError(f"no host {host!r}; {nearest(host, hosts)}", where=str(self.file))
        if hosts[host].count is None:
            raise HubsmithError("it is one machine; give it a `count` to have more", where=f"hosts.{host}")
        before = self.machines()
        self.record.write(COUNTS, {**self.record.read(COUNTS), host: number})
        after = self.machines()
        for name in reversed(before):
            if name not in after:
                say(name, before[name].down())
                before[name].delete()
                say(name, "deleted")


def at_once(
    machines: Mapping[str, QemuMachine], work: Callable[[str, QemuMachine], T], stop: threading.Event | None = None
) -> dict[str, T]:
    """Do something with several machines in a thread each.

    :param stop: set when one of them failed or the command is interrupted, so that the others end.
    :returns: what came of each, in their order.
    :raises HubsmithError: of the first that failed, after all have ended.
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
