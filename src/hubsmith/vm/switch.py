"""Private network that outlives the command: the switch of :mod:`hubsmith.vm.lan` in its own process.

One file, the plan, holds the connected NICs and the partition. The switch follows the plan whenever it changes. So a
switch that died is restarted as it was, and machines do not notice.
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
#: Lock file held by the running switch. Its content is the version of the plan that the switch follows.
RUNNING = ".running"
#: Seconds between two reads of the plan.
TICK = 0.25
#: Seconds until a switch must follow a new plan, including the start of Python.
START = 20.0


class PersistentLan:
    """Private network whose switch outlives the command.

    :param folder: folder of the network, created if necessary.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(mode=0o700, exist_ok=True)

    def attach(self, folder: Path, nic: str, member: str) -> None:
        """Connect a NIC. It stays connected across restarts of its machine.

        :raises HarnessFailed: the switch does not start.
        """
        key = str(folder / nic)
        with self._plan() as plan:
            # The switch's socket is in the machine's folder, and is deleted when the machine is replaced.
            missing = key not in plan["ports"] or not (folder / lan_sockets(nic)[1]).exists()
            # A switch that starts again must be waited for, too: it has yet to follow the plan.
            if missing or not self.running:
                plan["version"] += 1
            if missing:
                plan["ports"][key] = {"member": member, "since": plan["version"]}
        self._wait(plan["version"])

    def detach(self, member: str) -> None:
        """Disconnect all NICs of a machine."""
        with self._plan() as plan:
            plan["ports"] = {key: port for key, port in plan["ports"].items() if port["member"] != member}
            plan["version"] += 1

    def partition(self, *groups: Iterable[str]) -> None:
        """Partition the network: machines reach only members of their group. Without groups, undo this."""
        with self._plan() as plan:
            plan["groups"] = [sorted(group) for group in groups]
            plan["version"] += 1
        self._wait(plan["version"])

    def end(self) -> None:
        """Stop the switch for good, and wait until it has ended.

        :raises HarnessFailed: it did not end in time.
        """
        (self.folder / PLAN).unlink(missing_ok=True)
        wait_until(
            "the switch of the private network to end", lambda: not self.running, timeout=START, interval=0.05,
            error=HarnessFailed,
        )  # fmt: skip

    @property
    def running(self) -> bool:
        """Whether the switch is running."""
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
            before = files.canonical(plan)
            yield plan
            # A plan that stays as it is needs no room on a full disk.
            if (text := files.canonical(plan)) != before:
                files.write(path, text)

    def _wait(self, version: int) -> None:
        deadline = time.monotonic() + START
        while not self.running or self._seen() < version:
            if not self.running:
                # In its own session it gets no SIGHUP from the terminal. A second switch finds the lock taken.
                with (self.folder / "switch.log").open("ab") as log:
                    spawn(
                        ["setsid", sys.executable, "-m", "hubsmith.vm.switch", self.folder],
                        stdin=subprocess.DEVNULL, stdout=log, stderr=log, own_group=False,
                    )  # fmt: skip
                time.sleep(TICK)
            if time.monotonic() > deadline:
                raise HarnessFailed(
                    "cannot start the switch of the private network", where=str(self.folder / "switch.log")
                )
            time.sleep(0.05)

    def _seen(self) -> int:
        try:
            return int((self.folder / RUNNING).read_text() or 0)
        except (OSError, ValueError):
            return 0


def read(path: Path) -> dict[str, Any] | None:
    """Read the plan of a network; None if there is none."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None


def serve(folder: Path) -> None:
    """Run the switch until the plan is deleted. Does nothing if another switch is running."""
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
                # Commands wait for this version.
                os.pwrite(running.fileno(), f"{done}\n".encode(), 0)
            time.sleep(TICK)
        lan.close()


def _plug(lan: Lan, plugged: dict[str, Mapping[str, Any]], wanted: Mapping[str, Mapping[str, Any]]) -> None:
    for key in [key for key, port in plugged.items() if wanted.get(key) != port]:
        lan.detach(Path(key).parent, Path(key).name)
        del plugged[key]
    for key, port in wanted.items():
        place = Path(key)
        # The folder is missing if the machine was deleted in the meantime.
        if key not in plugged and place.parent.is_dir():
            lan.attach(place.parent, place.name, port["member"])
            plugged[key] = port


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
