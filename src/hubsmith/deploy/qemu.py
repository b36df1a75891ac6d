"""The `qemu` target: machines on this computer that outlive the command that started them."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, cast

from hubsmith.deploy.hosts import Host
from hubsmith.deploy.record import Record
from hubsmith.errors import HubsmithError, ImageFailed
from hubsmith.run import run, spawn
from hubsmith.vm import Hardware, Instance, Machine, Testbed
from hubsmith.vm.command import DISK, MONITOR
from hubsmith.vm.qmp import QmpClient
from hubsmith.vm.waits import wait_until

MACHINE = "machine.json"


class _Lasting:
    """Stands in for a testbed: same folder, but nothing in it ends with this process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.machines: list[Machine] = []

    def spawn(
        self, argv: Sequence[str | Path], *, cwd: Path | None = None,
        stdin: int | IO[bytes] | None = subprocess.DEVNULL,
        output: Path | None = None, pass_fds: Sequence[int] = (),
    ) -> subprocess.Popen[bytes]:  # fmt: skip
        if str(argv[0]) == "ssh":  # connections end with us; only QEMU stays
            return spawn(argv, cwd=cwd, stdin=stdin, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with output.open("ab") if output else open(os.devnull, "wb") as stream:  # noqa: PTH123
            # setsid would fork, and change the process id, if it led a group already.
            return spawn(
                ["setsid", *argv], cwd=cwd, stdin=stdin, stdout=stream, stderr=stream, pass_fds=pass_fds,
                own_group=False,
            )  # fmt: skip

    def on_close(self, closer: Callable[[], object]) -> None:
        """Nothing is closed."""


class _Attached:
    """A QEMU that an earlier command started, by its process id."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """0 when it is gone."""
        if self.returncode is None and not alive(self.pid):
            self.returncode = 0
        return self.returncode

    def wait(self, timeout: float = 30) -> int:
        """Wait for its end."""
        wait_until("QEMU to end", lambda: self.poll() is not None, timeout=timeout, interval=0.1)
        return 0


def alive(pid: int) -> bool:
    """Whether a process is a QEMU of ours: ids are reused."""
    try:
        return b"qemu-system" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


class QemuHost:
    """One host of a deployment.

    :param root: the project's tree, where ``out/<image>/`` is.
    """

    def __init__(self, root: Path, record: Record, name: str, host: Host) -> None:
        self.root, self.record, self.name, self.host = root, record, name, host
        self.folder = record.folder / name
        self.known = record.read(f"{name}/{MACHINE}") if self.folder.exists() else {}

    @property
    def running(self) -> bool:
        """Whether its QEMU runs."""
        return bool(self.known.get("pid")) and alive(int(self.known["pid"]))

    @property
    def url(self) -> str:
        """Where its hub answers."""
        return f"https://127.0.0.1:{self.known['ports']['443']}/"

    def built(self) -> tuple[Path, str]:
        """The built image and its checksum.

        :raises HubsmithError: it is not built.
        """
        image = self.root / "out" / self.host.image / f"{self.host.image}.qcow2"
        sums = image.parent / "SHA256SUMS"
        if not image.is_file() or not sums.is_file():
            raise HubsmithError(
                f"the image {self.host.image!r} is not built",
                where=str(image),
                mend=f"hubsmith build {self.host.image}",
            )
        return image, next(line.split()[0] for line in sums.read_text().splitlines() if line.endswith(image.name))

    def status(self) -> str:
        """Up-to-date, Outdated (another image or other settings now), Stopped or Missing."""
        if not self.known:
            return "Missing"
        if not self.running:
            return "Stopped"
        return "Up-to-date" if self.known["wanted"] == self._wanted()[0] else "Outdated"

    def _wanted(self) -> tuple[dict[str, Any], str]:
        text, _ = self.record.settings(self.name, self.host)
        hardware = self.host.model_dump(exclude={"settings"})
        return {"sha256": self.built()[1], "settings": text, "hardware": json.loads(json.dumps(hardware))}, text

    def up(self, say: Callable[[str], None], *, wait: float) -> str:
        """Bring it up and wait until its hub answers; does nothing when it is up as wanted.

        :param say: gets one line per step.
        :param wait: seconds for the boot.
        :returns: what was done.
        :raises HubsmithError: it runs with another image or other settings.
        :raises ImageFailed: it did not come up, or it refused its settings.
        """
        wanted, text = self._wanted()
        if self.known and self.known["wanted"] != wanted:
            raise HubsmithError(
                "it exists with another image, other hardware or other settings", where=self.name,
                mend="hubsmith down FILE --delete, then up again (a replacement that keeps the homes is not there yet)",
            )  # fmt: skip
        done = "is up already"
        if not self.running:
            done = "started again" if self.known else "made"
            machine = self._start(wanted, text, say)
        else:
            machine = self.machine()
        self._wait(machine, say, wait)
        return done

    def _start(self, wanted: dict[str, Any], text: str, say: Callable[[str], None]) -> Machine:
        self.folder.mkdir(mode=0o700, exist_ok=True)
        image = self._pin(*self.built())
        machine = self._machine(image, text)
        say(f"{self.name}: starting QEMU ({machine.accelerator.name})")
        machine.start()
        assert machine._process is not None
        self.known = {
            "wanted": wanted,
            "pid": machine._process.pid,
            "ports": {str(k): v for k, v in machine.ports.items()},
        }
        self.record.write(f"{self.name}/{MACHINE}", self.known)
        return machine

    def _pin(self, image: Path, sha256: str) -> Path:
        """A link to the image's bytes that a later build cannot take away from under the machine's disk."""
        pinned = self.record.folder / f"{sha256}.qcow2"
        if not pinned.exists():
            try:
                os.link(image, pinned)
            except OSError:  # another file system
                run(["cp", "--sparse=always", image, pinned])
        return pinned

    def _machine(self, image: Path, text: str) -> Machine:
        host = self.host
        indented = "".join(f"      {line}\n" for line in text.splitlines())
        user_data = (
            "#cloud-config\nwrite_files:\n  - path: /etc/hubsmith/settings.toml\n    permissions: '0600'\n"
            f"    content: |\n{indented}"
        )
        hardware = Hardware(
            memory_mb=host.memory_mb, cpus=host.cpus, firmware=host.firmware, disk_size_gb=host.disk_gb, durable=True
        )
        place = cast(Testbed, _Lasting(self.record.folder))
        machine = Machine(place, self.name, image, hardware, instance=Instance(self.name, user_data=user_data))
        (self.folder / "seed.iso").chmod(0o600)
        shutil.rmtree(self.folder / "seed", ignore_errors=True)
        return machine

    def machine(self) -> Machine:
        """The running machine.

        :raises HubsmithError: it does not run.
        """
        if not self.running:
            raise HubsmithError("it does not run", where=self.name, mend="hubsmith up FILE")
        machine = self._machine(
            self.record.folder / f"{self.known['wanted']['sha256']}.qcow2", self.known["wanted"]["settings"]
        )
        machine.ports = {int(guest): int(port) for guest, port in self.known["ports"].items()}
        machine._process = cast("subprocess.Popen[bytes]", _Attached(int(self.known["pid"])))
        return machine

    def _wait(self, machine: Machine, say: Callable[[str], None], wait: float) -> None:
        began, told = time.monotonic(), ""

        def answers() -> bool:
            nonlocal told
            lines = re.findall(r"^hubsmith: (.+?)\r?$", machine.console.text(machine.started_at), re.MULTILINE)
            if lines and lines[-1] != told:
                told = lines[-1]
                say(f"{self.name}: {told} ({time.monotonic() - began:.0f} s)")
            if told.startswith("refused"):
                raise ImageFailed(f"the machine refuses its settings: {told}", where=self.name)
            try:
                return machine.get("/hub/login", timeout=20).status == 200
            except OSError:
                return False

        wait_until(f"the hub of {self.name}", answers, timeout=wait, interval=1, alive=machine.alive, seen=machine.seen)

    def down(self, *, timeout: float = 90) -> str:
        """Switch it off, in an orderly way when it answers in time.

        :returns: what was done.
        """
        if not self.running:
            return "is not running"
        pid = int(self.known["pid"])
        qmp = QmpClient(self.folder / MONITOR, self.name)
        qmp.execute("system_powerdown")
        qmp.close()
        deadline = time.monotonic() + timeout
        while alive(pid) and time.monotonic() < deadline:
            time.sleep(0.2)
        if not alive(pid):
            return "stopped"
        os.kill(pid, signal.SIGKILL)
        return f"did not stop within {timeout:.0f} s and was killed"

    @property
    def has_disk(self) -> bool:
        """Whether its disk exists."""
        return (self.folder / DISK).exists()
