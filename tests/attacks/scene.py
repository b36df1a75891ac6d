"""Who attacks, and from where.

The machine is a hub with the admin alice and the students bob and carol. bob's server runs with a kernel in it, and bob
may come by SSH. Each attack is a function of the :class:`Scene` that tells whether the attacker got what they wanted::

    @attack(weaken="chmod 644 /etc/shadow")
    def test_the_password_hashes(scene: Scene) -> bool:
        return "$y$" in scene.notebook.sh("cat /etc/shadow")

It must fail on the machine as it is shipped, and succeed on the same machine without what stops it: an attack that
cannot succeed proves nothing. The second half is slow.
"""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import pytest
from hub_client import HubClient, Kernel
from hub_fixtures import HARDWARE, KERNEL, SPAWN, Hub, at_login_page
from people import settings

from hubsmith.deploy.user_data import user_data
from hubsmith.run import run
from hubsmith.testing.frozen import FrozenMachines
from hubsmith.vm.linux import Machine
from hubsmith.vm.machine import Snapshot
from hubsmith.vm.metadata import Instance
from hubsmith.vm.ssh import Done, Ssh, write_config
from hubsmith.vm.testbed import Testbed
from hubsmith.vm.waits import scaled

ADMIN, STUDENT, VICTIM = "alice", "bob", "carol"
#: Of each home, in MB.
QUOTA = 64
#: A port that nothing of ours listens on, and that the world would reach if the firewall let it.
OPEN_PORT = 8081
#: Runs a line of shell in Python; what it prints on both outputs.
SH = """
import subprocess
print(subprocess.run({line!r}, shell=True, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=50,
                     errors="replace").stdout)
"""
#: Prints the properties of bob's unit as the spawner makes them.
CONFINEMENT = """
import json, pwd
from hubsmith_spawner_local.confinement import confinement
print(json.dumps(confinement(pwd.getpwnam("bob"), memory=None, admin=False)))
"""


class Notebook:
    """Code in the kernel of bob's server."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel

    def python(self, code: str) -> str:
        """What it prints, or the exception that it ends with."""
        try:
            return self.kernel.execute(code)
        except RuntimeError as error:
            return str(error)

    def sh(self, line: str) -> str:
        """The same for a line of shell."""
        return self.python(SH.format(line=f"{line} 2>&1"))


class WeakNotebook(Notebook):
    """Code in a unit like that of bob's server, without some of its properties."""

    def __init__(self, machine: Machine, without: Sequence[str]) -> None:
        self.machine = machine
        found = json.loads(machine.succeed(f"python3 -I -c {shlex.quote(CONFINEMENT)}"))
        assert found.keys() >= set(without)
        # The folder of the server's own unit would be removed with this one.
        self.properties = {key: value for key, value in found.items() if key not in {*without, "RuntimeDirectory"}}

    def python(self, code: str) -> str:
        words = ["systemd-run", "--quiet", "--collect", "--pipe", "--wait", "--slice=hubsmith-users.slice"]
        words += [f"--uid={STUDENT}", f"--gid={STUDENT}", f"--working-directory=/home/{STUDENT}"]
        words += [word for key, value in self.properties.items() for word in ("-p", f"{key}={value}")]
        done = self.machine.execute(shlex.join([*words, "/opt/notebook/bin/python", "-c", code]), timeout=120)
        return (done.stdout + done.stderr).strip()


class Scene:
    """A machine, and those who come to it."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.hub = Hub(machine)
        self._weak: Notebook | None = None

    def weaken(self, command: str, without: Sequence[str]) -> None:
        """Take away what stops an attack."""
        if command:
            self.machine.succeed(command, timeout=180)
        if without:
            self._weak = WeakNotebook(self.machine, without)

    @property
    def notebook(self) -> Notebook:
        """bob's kernel."""
        return self._weak or self._kernel

    @cached_property
    def _kernel(self) -> Notebook:
        self.student.spawn(scaled(SPAWN))  # it runs; this is its own login
        (kernel,) = self.student.kernels()
        kernel.timeout = scaled(60)
        return Notebook(kernel)

    @cached_property
    def student(self) -> HubClient:
        """bob at a browser."""
        return self.hub.person(STUDENT)

    @cached_property
    def admin(self) -> HubClient:
        """alice at a browser."""
        return self.hub.person(ADMIN)

    @cached_property
    def stranger(self) -> HubClient:
        """Someone who never logged in."""
        return HubClient(self.machine.url, "stranger", timeout=scaled(60))

    @cached_property
    def _ssh(self) -> Ssh:
        folder = self.machine.folder / STUDENT
        folder.mkdir()
        config = write_config(folder, STUDENT, self.machine.port(22), STUDENT, self.machine.key)
        return Ssh(config, STUDENT, lambda argv: self.machine.testbed.spawn(argv, output=folder / "ssh.log"))

    def ssh(self, line: str, timeout: float = 60) -> Done:
        """A command of bob's over SSH."""
        self._ssh.connect()
        return self._ssh.run(line, timeout=scaled(timeout))

    def keygen(self, file: Path) -> None:
        """Make an SSH key."""
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", file])

    def ssh_with(self, key: Path, line: str) -> str:
        """What a command prints when someone comes as bob with another key."""
        folder = self.machine.folder / f"{key.name}.ssh"
        folder.mkdir()
        config = write_config(folder, "other", self.machine.port(22), STUDENT, key)
        return run(["ssh", "-F", config, "other", line], check=False, timeout=120).stdout.strip()

    def hub_pid(self) -> str:
        """The process of the hub."""
        return self.root("systemctl show --property=MainPID --value jupyterhub.service").strip()

    def root(self, command: str) -> str:
        """What the operator sees."""
        return self.machine.succeed(command, timeout=120)

    def as_user(self, name: str, command: str) -> Done:
        """A command of another user's, over whom an attack may have gained something."""
        return self.machine.execute(f"runuser -u {name} -- sh -c {shlex.quote(command)}")


def edit(path: str, program: str) -> str:
    """A command that changes a file of the sealed root for all to see, with sed."""
    copy = f"/run/weak{path.replace('/', '-')}"
    command = (
        f"sed -E {shlex.quote(program)} {path} > {copy} && ! cmp -s {path} {copy} && chmod --reference={path} {copy} "
        f"&& mount --bind {copy} {path}"
    )
    if path.startswith("/usr/lib/hubsmith/python/"):
        # Its bytecode would be used instead. Python ignores an empty one.
        folder, name = path.rsplit("/", 1)
        bytecode = f"{folder}/__pycache__/{name.removesuffix('.py')}.*.pyc"
        command += f" && for file in {bytecode}; do mount --bind /dev/null $file; done"
    return command


def configure_hub(program: str) -> str:
    """A command that changes the hub's configuration with sed, and restarts it."""
    return f"{edit('/etc/jupyterhub/jupyterhub_config.py', program)} && systemctl restart jupyterhub.service"


Attack = Callable[[Scene], bool]


def attack(weaken: str = "", *, without: Sequence[str] = ()) -> Callable[[Attack], Callable[..., None]]:
    """Make a test of an attack.

    :param weaken: a command of root's that takes away what stops it.
    :param without: properties of a notebook's unit that stop it.
    """

    def decorate(function: Attack) -> Callable[..., None]:
        weakened = [pytest.mark.slow, pytest.mark.allow(".", "the machine was weakened on purpose")]

        @pytest.mark.parametrize("weak", [False, pytest.param(True, marks=weakened)], ids=["as-shipped", "weakened"])
        def test(scene: Scene, weak: bool) -> None:
            if weak:
                scene.weaken(weaken, without)
            assert function(scene) is weak

        test.__name__, test.__doc__ = function.__name__, function.__doc__
        return test

    return decorate


def at_work(machine: Machine) -> None:
    """Wait for the hub, and let bob start a server and a kernel."""
    at_login_page(machine)
    student = Hub(machine).person(STUDENT)
    student.spawn(scaled(SPAWN))
    with student.start_kernel(scaled(KERNEL)) as kernel:
        kernel.execute("1")
    machine.succeed(f"install -o {VICTIM} -g {VICTIM} -m 600 /dev/null /home/{VICTIM}/diary.txt")
    machine.succeed(f"echo 'dear diary' > /home/{VICTIM}/diary.txt")


@pytest.fixture(scope="session")
def scene_snapshot(frozen: FrozenMachines, testbed: Testbed, image: Path) -> Snapshot:
    """The machine, with bob at work."""
    public = (testbed.folder / "id_ed25519.pub").read_text().strip()
    text = settings((ADMIN, STUDENT, VICTIM), quota=f"{QUOTA}M", spawner={"start_timeout": "6m"})
    text = text.replace(f'name = "{STUDENT}"\n', f'name = "{STUDENT}"\nssh_keys = ["{public}"]\n')
    instance = Instance(hostname="hub", user_data=user_data(text))
    hardware = dataclasses.replace(HARDWARE, forwards={**HARDWARE.forwards, OPEN_PORT: 0})
    return frozen.machine(testbed, "scene", image, hardware, instance, at_work)


@pytest.fixture
def scene(thaw: Callable[..., Machine], scene_snapshot: Snapshot) -> Scene:
    """The machine, as if nobody had attacked it yet."""
    return Scene(thaw(scene_snapshot))
