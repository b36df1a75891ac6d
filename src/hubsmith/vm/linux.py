"""Virtual machines that run Linux with systemd, sshd and cloud-init: commands, waits and reboots."""

from __future__ import annotations

import shlex
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any

from hubsmith.errors import HarnessFailed, HubsmithError, ImageFailed
from hubsmith.vm import metadata
from hubsmith.vm.accel import Accelerator
from hubsmith.vm.hardware import Hardware
from hubsmith.vm.machine import Snapshot, VirtualMachine
from hubsmith.vm.metadata import Instance, Source
from hubsmith.vm.ssh import UNREACHABLE, Done, Ssh, sudo, write_config
from hubsmith.vm.state_dir import StateDir
from hubsmith.vm.testbed import ssh_key
from hubsmith.vm.waits import scaled, wait_until

#: Tolerated clock error of a restored guest, in seconds: one SSH round trip under emulation.
CLOCK_TOLERANCE = 5.0


class Machine(VirtualMachine):
    """A Linux machine.

    :param source: metadata source.
    :param instance: metadata; the testbed's SSH key is added to its keys.
    :param user: user for SSH: the image's default user, who may use sudo without a password.
    """

    def __init__(
        self,
        testbed: StateDir,
        name: str,
        image: Path,
        hardware: Hardware | None = None,
        *,
        source: Source = "config-drive",
        instance: Instance | None = None,
        user: str = "debian",
        accelerator: Accelerator | None = None,
    ) -> None:
        self._ssh: Ssh | None = None
        super().__init__(testbed, name, image, hardware, accelerator=accelerator)
        self.user, self.source = user, source
        self.key = ssh_key(testbed.folder)
        self.renew(instance or Instance(hostname=name))

    # Metadata

    def renew(self, instance: Instance) -> None:
        """Replace the metadata at the next start. The testbed's SSH key is added to its keys."""
        public = self.key.with_suffix(".pub").read_text().strip()
        self.instance, self._delivered = replace(instance, ssh_keys=(*instance.ssh_keys, public)), False

    def _make_files(self) -> None:
        super()._make_files()
        self._deliver()

    def _deliver(self) -> None:
        if not self._delivered:
            self.attachments = metadata.attach(self.folder, self.source, self.instance, self.mac)
            self._delivered = True

    def snapshot(self, label: str, *, resume: bool = True, timeout: float = 120) -> Snapshot:
        """Save the running machine.

        :raises HarnessFailed: QEMU cannot write its state.
        """
        self._deliver()  # for a machine that another process started with the same drives
        return super().snapshot(label, resume=resume, timeout=timeout)

    def restore(self, snapshot: Snapshot, *, timeout: float = 60) -> None:
        """Return to a snapshot of this machine, or of one with the same hardware, and set the clock.

        :raises HarnessFailed: QEMU cannot read the state.
        """
        self._delivered = True  # the metadata is part of the snapshot
        super().restore(snapshot, timeout=timeout)

    # Commands

    @property
    def ssh(self) -> Ssh:
        """SSH client, with the shared connection open.

        :raises HarnessFailed: the machine is off.
        """
        if self._ssh is None:
            config = write_config(self.folder, self.name, self.port(22), self.user, self.key)
            self._ssh = Ssh(config, self.name, self._spawn_ssh)
        self._ssh.connect()
        return self._ssh

    def _spawn_ssh(self, argv: Sequence[str | Path]) -> subprocess.Popen[bytes]:
        return self.testbed.spawn(argv, output=self.folder / "ssh.log")

    def execute(self, command: str, *, root: bool = True, timeout: float = 60, stdin: str | None = None) -> Done:
        """Run a shell command and return its output and exit code.

        :param root: run it with sudo, otherwise as the default user.
        :param timeout: seconds.
        :param stdin: text for standard input.
        :raises ImageFailed: the guest died or cannot be reached.
        """
        self.alive()
        try:
            done = self.ssh.run(sudo(command) if root else command, timeout=scaled(timeout), stdin=stdin)
        except HubsmithError as error:
            self.alive()
            raise ImageFailed(f"`{command}` on {self.name!r}: {error.what}\n{self.seen()}") from error
        if done.rc == UNREACHABLE and ("ssh:" in done.stderr or "Connection" in done.stderr or not done.stderr):
            self.alive()
            raise ImageFailed(f"{self.name!r} cannot be reached by SSH: {done.stderr.strip()}\n{self.seen()}")
        return done

    def succeed(self, command: str, *, root: bool = True, timeout: float = 60, stdin: str | None = None) -> str:
        """Run a shell command and return its standard output.

        :raises ImageFailed: the exit code is not 0.
        """
        done = self.execute(command, root=root, timeout=timeout, stdin=stdin)
        if done.rc != 0:
            raise ImageFailed(f"`{command}` on {self.name!r} failed with exit code {done.rc}:\n{_output(done)}")
        return done.stdout

    def fail(self, command: str, *, root: bool = True, timeout: float = 60) -> str:
        """Run a shell command that must fail, and return its standard output and standard error.

        :raises ImageFailed: the exit code is 0.
        """
        done = self.execute(command, root=root, timeout=timeout)
        if done.rc == 0:
            raise ImageFailed(f"`{command}` on {self.name!r} succeeded but should fail:\n{_output(done)}")
        return done.stdout + done.stderr

    @property
    def host(self) -> Any:
        """The machine as testinfra sees it, as root."""
        # Imported late: testinfra loads pytest, which commands do not need.
        import testinfra  # type: ignore[import-untyped]

        self.alive()
        self.ssh  # noqa: B018  opens the connection that testinfra's own ssh calls share
        # controlpersist=0: the connection is in the configuration already.
        return testinfra.get_host(
            f"ssh://{self.name}", ssh_config=str(self.folder / "ssh_config"), sudo=True, controlpersist=0, timeout=60
        )

    # Waiting

    def wait_for_ssh(self, timeout: float = 300) -> None:
        """Wait until a command can be run over SSH.

        :raises ImageFailed: the guest died, or the timeout expired.
        """

        def answers() -> bool:
            if not _accepts(self.port(22)):
                return False
            # Not the shared connection: opening it fails until the guest answers.
            ssh = self._ssh or Ssh(
                write_config(self.folder, self.name, self.port(22), self.user, self.key), self.name, self._spawn_ssh
            )
            try:
                return ssh.run("true", timeout=scaled(60)).rc == 0
            except HubsmithError:
                return False

        self.wait_until(f"SSH of {self.name}", answers, timeout, interval=1)

    def wait_for_boot(self, timeout: float = 400) -> None:
        """Wait for SSH, then until systemd and cloud-init have finished the boot.

        :raises ImageFailed: a unit or cloud-init failed, or the timeout expired.
        """
        started = time.monotonic()
        self.wait_for_ssh(timeout)
        left = max(30.0, timeout - (time.monotonic() - started) / scaled(1))
        state = self.execute("systemctl is-system-running --wait", timeout=left).stdout.strip()
        if state != "running":
            failed = self.execute("systemctl --failed --no-legend --plain").stdout
            units = [line.split()[0] for line in failed.splitlines()]
            logs = "\n".join(self.journal(unit) for unit in units)
            raise ImageFailed(f"{self.name!r} is {state}; failed: {', '.join(units) or 'nothing'}\n{logs}")

    def wait_for_unit(self, unit: str, timeout: float = 120) -> None:
        """Wait until a unit is active; fails at once if the unit failed or nothing will start it.

        :raises ImageFailed: the unit did not become active. The message holds the end of its journal.
        """

        def active() -> bool:
            names = "ActiveState,SubState,Result,Job,LoadState"
            out = self.succeed(f"systemctl show --property={names} {shlex.quote(unit)}")
            found = dict(line.split("=", 1) for line in out.splitlines() if "=" in line)
            state = found["ActiveState"]
            if found["LoadState"] not in ("loaded", "masked"):
                raise ImageFailed(f"there is no unit {unit!r} on {self.name!r} ({found['LoadState']})")
            if state == "failed" or (state == "inactive" and found.get("Job", "0") in ("0", "")):
                reason = found["Result"] if state == "failed" else "inactive, and nothing is about to start it"
                raise ImageFailed(f"{unit} on {self.name!r} is not coming up ({reason})\n{self.journal(unit)}")
            return state == "active"

        wait_until(
            f"{unit} on {self.name}", active, timeout=timeout, interval=0.5, alive=self.alive,
            seen=lambda: self.journal(unit),
        )  # fmt: skip

    def journal(self, unit: str | None = None, lines: int = 40) -> str:
        """Last lines of this boot's journal, for one unit or for all."""
        of = f"-u {shlex.quote(unit)} " if unit else ""
        try:
            out = self.execute(f"journalctl --namespace='*' -b --no-pager -q -o short-monotonic {of}-n {lines}").stdout
        except HubsmithError as error:
            return f"(the journal cannot be read: {error.what})"
        return f"the journal of {unit or self.name}:\n{out.strip() or '(empty)'}"

    def get(self, path: str = "/", *, scheme: str = "https", host: str | None = None, timeout: float = 60) -> Answer:
        """Send one GET request through the forwarded port.

        Certificates are not verified and redirects are not followed.

        :param host: value of the ``Host`` header.
        :raises OSError: the connection failed.
        """
        port = self.port(443 if scheme == "https" else 80)
        if scheme == "https":
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            connection: HTTPConnection = HTTPSConnection("127.0.0.1", port, timeout=scaled(timeout), context=context)
        else:
            connection = HTTPConnection("127.0.0.1", port, timeout=scaled(timeout))
        try:
            connection.request("GET", path, headers={"Host": host} if host else {})
            found = connection.getresponse()
            return Answer(found.status, {k.lower(): v for k, v in found.getheaders()}, found.read().decode())
        except HTTPException as error:
            raise ConnectionError(f"{type(error).__name__}: {error}") from error
        finally:
            connection.close()

    def wait_for_http(
        self, path: str = "/", *, scheme: str = "https", status: Sequence[int] = (200,), timeout: float = 300
    ) -> Answer:
        """Wait until a page answers with one of the given statuses, and return the response.

        :raises ImageFailed: the guest died, or the timeout expired. The message holds the last response.
        """
        last = "no connection"

        def right() -> Answer | None:
            nonlocal last
            try:
                found = self.get(path, scheme=scheme)
            except OSError as error:
                last = f"no answer ({error})"
                return None
            last = f"status {found.status}: {found.text[:300]}"
            return found if found.status in status else None

        return wait_until(
            f"{scheme} {path} of {self.name} to answer with {' or '.join(map(str, status))}", right, timeout=timeout,
            interval=1, alive=self.alive, seen=lambda: f"last: {last}\n{self.seen()}",
        )  # fmt: skip

    def wait_for_https(self, path: str = "/", *, status: Sequence[int] = (200,), timeout: float = 300) -> Answer:
        """:meth:`wait_for_http` over TLS."""
        return self.wait_for_http(path, scheme="https", status=status, timeout=timeout)

    @property
    def url(self) -> str:
        """HTTPS address of the machine, as seen from the host."""
        return f"https://127.0.0.1:{self.port(443)}"

    @property
    def host_address(self) -> str:
        """Address at which the guest reaches the host's 127.0.0.1."""
        return "169.254.2.2" if self.attachments.network else "10.0.2.2"

    # Power

    def reboot(self, timeout: float = 400) -> None:
        """Reboot the guest cleanly and wait until it has booted without a failed unit.

        :raises ImageFailed: the guest did not reboot, or a unit failed.
        """
        self.restart(timeout)
        self.wait_for_boot(timeout)

    def restart(self, timeout: float = 400, alive: Callable[[], None] | None = None) -> None:
        """Reboot the guest cleanly and wait for SSH, whatever state it comes back in.

        :param alive: raises if waiting is pointless; by default :meth:`alive`.
        :raises ImageFailed: the guest did not reboot.
        """
        before = self.boot_id()
        # In the background, so that the connection closes before sshd stops.
        self.succeed("systemd-run --quiet --on-active=1 systemctl reboot")
        self._before_freeze()

        def rebooted() -> bool:
            try:
                return _accepts(self.port(22)) and self.boot_id() != before
            except ImageFailed:
                return False

        wait_until(
            f"{self.name} to reboot", rebooted, timeout=timeout, interval=1, alive=alive or self.alive, seen=self.seen
        )

    def boot_id(self) -> str:
        """Kernel's boot ID, which changes with every boot."""
        return self.succeed("cat /proc/sys/kernel/random/boot_id", root=False).strip()

    def kill(self) -> None:
        """Kill QEMU. The machine can be started again."""
        self._before_freeze()
        super().kill()

    def _gone(self) -> None:
        self._before_freeze()
        super()._gone()

    def _before_freeze(self) -> None:
        if self._ssh is not None:
            self._ssh.close()
            self._ssh = None

    def _after_restore(self) -> None:
        """Set the guest's wall clock, which stood still while the machine was saved."""
        self.wait_for_ssh(120)
        began = time.time()
        self.succeed(f"date -u -s @{began:.3f} >/dev/null")
        asked = time.time()
        guest = float(self.succeed("date +%s.%N", root=False))
        # The clock may be late by the time that the command took to arrive.
        if not began - CLOCK_TOLERANCE < guest < time.time() + CLOCK_TOLERANCE:
            raise HarnessFailed(f"the clock of the restored {self.name!r} is {guest - asked:.0f} s off")

    @classmethod
    def clone(cls, testbed: StateDir, name: str, snapshot: Snapshot, **more: Any) -> Machine:
        """Create a machine from a snapshot.

        It has the addresses of the saved machine: do not put two of them on one network.
        """
        machine = cls(testbed, name, snapshot.image, snapshot.hardware, source="none", **more)
        machine.restore(snapshot)
        return machine


class Answer:
    """HTTP response.

    :ivar headers: values by lower-case name.
    """

    def __init__(self, status: int, headers: dict[str, str], text: str) -> None:
        self.status, self.headers, self.text = status, headers, text

    def __repr__(self) -> str:
        return f"Answer({self.status}, {self.text[:60]!r})"


def _accepts(port: int) -> bool:
    """Whether the guest's server answers on a forwarded port. QEMU accepts every connection, so wait for a byte."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            return bool(connection.recv(1))
    except OSError:
        return False


def _output(done: Done) -> str:
    return "\n".join(part.strip() for part in (done.stdout, done.stderr) if part.strip()) or "(it printed nothing)"
