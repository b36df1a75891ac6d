"""All machines of a deployment, and what is done to all of them: in the order that they need, at once where none."""

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
#: Machines that are asked at once; each is a thread that waits for an SSH connection.
AT_ONCE = 16


class Fleet:
    """The machines of one file of ``hosts/``.

    :param root: the project's tree.
    :param file: the deployment.
    :raises DefinitionError: the file is missing or wrong.
    :raises HubsmithError: another file has made a deployment of this name.
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
        """Every machine that should be there, and the host whose it is, in the order of bringing them up."""
        return self.deployment.machines({name: one["machines"] for name, one in self._scaled().items()})

    def _scaled(self) -> dict[str, dict[str, int]]:
        """What of :data:`COUNTS` still holds: a `count` of the file that was changed since then wins."""
        found = {}
        for name, one in self.record.read(COUNTS).items():
            if (host := self.deployment.hosts.get(name)) is not None and host.count is not None:
                # Earlier versions did not record the file's count: what they wrote holds until the next change.
                known = one if isinstance(one, dict) else {"machines": one, "file": host.count}
                if known["file"] == host.count:
                    found[name] = known
        return found

    def notes(self) -> list[str]:
        """Who has set the counts, where `hubsmith scale` and the file differ."""
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
        """A line for each obsolete machine: how to get rid of it."""
        return [
            f"{name}: obsolete, holds {' and '.join(held)}; `hubsmith down {self.file} {name} --delete` deletes it"
            if (held := one.holds()) else f"{name}: obsolete; `hubsmith deploy {self.file}` deletes it"
            for name, one in self.obsolete().items()
        ]  # fmt: skip

    def settle_counts(self) -> None:
        """Forget counts of `hubsmith scale` that the file has overruled, and complete records of earlier versions."""
        if (scaled := self._scaled()) != self.record.read(COUNTS):
            self.record.write(COUNTS, scaled)

    def machines(self) -> dict[str, QemuMachine]:
        """The machines of :meth:`hosts_of`, in their order."""
        names = self.hosts_of()
        network = self.deployment.network
        addresses = self.record.addresses(network, names) if network else {}
        return {
            name: QemuMachine(self.root, self.record, name, self.deployment.hosts[host], network, addresses)
            for name, host in names.items()
        }

    def obsolete(self) -> dict[str, QemuMachine]:
        """Machines that were made and that no host stands for any more: it was renamed, or has a lower count."""
        wanted = self.hosts_of()
        return {
            name: QemuMachine.recorded(self.root, self.record, name)
            for name in self.record.machines() if name not in wanted
        }  # fmt: skip

    def chosen(self, names: Iterable[str], *, obsolete: bool = False) -> dict[str, QemuMachine]:
        """Some machines, by their own names or those of their hosts; without names all.

        :param obsolete: obsolete machines too.
        :raises HubsmithError: there is none of such a name.
        """
        more = self.obsolete() if obsolete else {}
        machines, wanted = self.machines() | more, set(names)
        hosts = self.hosts_of() | {name: name for name in more}
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
        """Bring machines up; whoever is up as wanted is left alone. If machines may be replaced, obsolete ones are
        retired.

        :param say: gets a machine's name and one line, from several threads.
        :param wait: seconds for each boot.
        :param replacing: what to do with those that are there and are not as wanted.
        :param only: names of machines or hosts; without any it is all of them.
        :returns: what was done with each machine, and in how many seconds.
        :raises HubsmithError: one may not or cannot be brought up (nothing was done then), or it did not come up and
            those that need it were not started.
        """
        chosen = self.chosen(only, obsolete=replacing is not Replacing.NEVER)
        obsolete, machines = self._split(chosen)
        for one in machines.values():
            one.prepare(replacing)
        self.settle_counts()
        self.retire(obsolete, say)
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
        machines = [*self.machines().values(), *self.obsolete().values()]
        wanted = {str(one.known["wanted"]["sha256"]) for one in machines if one.known}
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

    def down(
        self, say: Callable[[str, str], None], *, orderly: bool = True, only: Iterable[str] = (), delete: bool = False
    ) -> None:
        """Switch machines off, the last ones first.

        :param orderly: as in :meth:`QemuMachine.down`.
        :param only: names of machines or hosts, obsolete ones included; without any it is all of them.
        :param delete: delete them with all that they hold.
        """
        obsolete, machines = self._split(self.chosen(only, obsolete=True))

        def switch_off(name: str, one: QemuMachine) -> None:
            say(name, one.down(orderly=orderly))
            if delete and one.known:
                one.delete()
                say(name, "deleted")

        if delete:
            at_once(obsolete, switch_off)
        else:
            self.retire(obsolete, say)
        for wave in reversed(list(self.waves(machines))):
            at_once(wave, switch_off)
        lan = self.record.folder / f"lan-{LAN}"
        if lan.exists() and not only:
            # It goes on for nobody.
            with PersistentMachines(self.record.folder) as place:
                place.lan(LAN).end()

    def _split(self, chosen: Mapping[str, QemuMachine]) -> tuple[dict[str, QemuMachine], dict[str, QemuMachine]]:
        wanted = self.hosts_of()
        obsolete = {name: one for name, one in chosen.items() if name not in wanted}
        return obsolete, {name: one for name, one in chosen.items() if name in wanted}

    def retire(self, obsolete: Mapping[str, QemuMachine], say: Callable[[str, str], None]) -> None:
        """Switch obsolete machines off and delete those that hold no data."""

        def end(name: str, one: QemuMachine) -> None:
            say(name, one.down())
            if held := one.holds():
                say(name, f"obsolete; keeps {' and '.join(held)}. To delete: hubsmith down {self.file} {name} --delete")
            else:
                one.delete()
                say(name, "obsolete; deleted")

        at_once(obsolete, end)

    def scale(self, host: str, number: int, say: Callable[[str, str], None]) -> None:
        """Change how many machines a host has; the last ones go, except for those that hold data.

        :raises HubsmithError: there is no such host, or it has no count.
        """
        hosts = self.deployment.hosts
        if host not in hosts:
            raise HubsmithError(f"no host {host!r}; {nearest(host, hosts)}", where=str(self.file))
        if (count := hosts[host].count) is None:
            raise HubsmithError("it is one machine; give it a `count` to have more", where=f"hosts.{host}")
        self.record.write(COUNTS, {**self._scaled(), host: {"machines": number, "file": count}})
        numbered = re.compile(rf"{re.escape(host)}-\d+")
        self.retire({name: one for name, one in self.obsolete().items() if numbered.fullmatch(name)}, say)


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
