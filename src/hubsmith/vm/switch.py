"""A private network that outlives the command: the switch of :mod:`hubsmith.vm.lan` in a process of its own.

What it does is written down in one file, which it reads again when the file changes: who is plugged in, who is cut
off. So a switch that died is started again as it was, and machines never notice.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hubsmith import files
from hubsmith.errors import HarnessFailed
from hubsmith.run import spawn
from hubsmith.vm.command import lan_sockets
from hubsmith.vm.lan import Lan
from hubsmith.vm.waits import wait_until

PLAN = "lan.json"
#: Held by the switch while it runs.
RUNNING = ".running"
#: Seconds between two looks at the plan.
TICK = 0.25
#: Seconds in which a switch has plugged in a new machine: it is a Python that starts.
START = 20.0


class LastingLan:
    """What commands see of a switch.

    :param folder: of the network; made when it is not there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(mode=0o700, exist_ok=True)

    def attach(self, folder: Path, nic: str, member: str) -> None:
        """Put a NIC on the network; it stays there over restarts of its machine.

        :raises HarnessFailed: the switch does not run.
        """
        key = str(folder / nic)
        with self._plan() as plan:
            plan["version"] += 1
            # What is in a machine's folder goes when the machine is made anew, and with it the switch's socket.
            if key not in plan["ports"] or not (folder / lan_sockets(nic)[1]).exists():
                plan["ports"][key] = {"member": member, "since": plan["version"]}
        self._wait(plan["version"])

    def detach(self, member: str) -> None:
        """Take all NICs of a machine off the network."""
        with self._plan() as plan:
            plan["ports"] = {key: port for key, port in plan["ports"].items() if port["member"] != member}
            plan["version"] += 1

    def partition(self, *groups: Iterable[str]) -> None:
        """Cut the network: only members of one group reach each other. Without groups it is whole again."""
        with self._plan() as plan:
            plan["groups"] = [sorted(group) for group in groups]
            plan["version"] += 1
        self._wait(plan["version"])

    def end(self) -> None:
        """Let the switch end, once and for all, and wait until it has.

        :raises HarnessFailed: it did not.
        """
        (self.folder / PLAN).unlink(missing_ok=True)
        wait_until(
            "the switch of the private network to end", lambda: not self.running, timeout=START, interval=0.05,
            error=HarnessFailed,
        )  # fmt: skip

    @property
    def running(self) -> bool:
        """Whether the switch is at work."""
        with (self.folder / RUNNING).open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    @contextmanager
    def _plan(self) -> Iterator[dict[str, Any]]:
        with (self.folder / ".plan").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            path = self.folder / PLAN
            plan = read(path) or {"version": 0, "ports": {}, "groups": []}
            yield plan
            files.write(path, files.canonical(plan))

    def _wait(self, version: int) -> None:
        deadline = time.monotonic() + START
        while not self.running or self._seen() < version:
            if not self.running:
                # In a session of its own, no hang-up of the terminal reaches it. A second one finds the lock taken.
                with (self.folder / "switch.log").open("ab") as log:
                    spawn(
                        ["setsid", sys.executable, "-m", "hubsmith.vm.switch", self.folder],
                        stdin=subprocess.DEVNULL, stdout=log, stderr=log, own_group=False,
                    )  # fmt: skip
                time.sleep(TICK)
            if time.monotonic() > deadline:
                raise HarnessFailed(
                    "the switch of the private network does not start", where=str(self.folder / "switch.log")
                )
            time.sleep(0.05)

    def _seen(self) -> int:
        try:
            return int((self.folder / RUNNING).read_text() or 0)
        except (OSError, ValueError):
            return 0


def read(path: Path) -> dict[str, Any] | None:
    """The plan of a network, or None when there is none (any more)."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None


def serve(folder: Path) -> None:
    """Be the switch until the plan is gone; does nothing when another one is at work."""
    with (folder / RUNNING).open("r+") as running:
        try:
            fcntl.flock(running, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        lan, done, plugged = Lan(folder.name), -1, dict[str, Mapping[str, Any]]()
        while (plan := read(folder / PLAN)) is not None:
            if plan["version"] != done:
                _plug(lan, plugged, plan["ports"])
                lan.partition(*plan["groups"])
                done = plan["version"]
                # What is read here is read by who waits for it.
                os.pwrite(running.fileno(), f"{done}\n".encode(), 0)
            time.sleep(TICK)
        lan.close()


def _plug(lan: Lan, plugged: dict[str, Mapping[str, Any]], wanted: Mapping[str, Mapping[str, Any]]) -> None:
    for key in [key for key, port in plugged.items() if wanted.get(key) != port]:
        lan.detach(Path(key).parent, Path(key).name)
        del plugged[key]
    for key, port in wanted.items():
        place = Path(key)
        # A machine that was deleted meanwhile has taken its folder with it.
        if key not in plugged and place.parent.is_dir():
            lan.attach(place.parent, place.name, port["member"])
            plugged[key] = port


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
