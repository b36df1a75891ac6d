"""The commands of docs/operators/restore.md bring a hub back, with everyone's files, uids and logins."""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from hub_fixtures import HARDWARE, HUB, Hub, start
from people import settings

from hubsmith.run import run
from hubsmith.vm.hardware import Volume
from hubsmith.vm.linux import Machine
from hubsmith.vm.ssh import write_config
from hubsmith.vm.testbed import Testbed

pytestmark = [pytest.mark.vm, pytest.mark.modules("jupyterhub"), pytest.mark.slow]

PAGE = Path(__file__).parents[2] / "docs/operators/restore.md"
#: Bob comes first in the order of uids, and alice in that of names: a machine that did not know would mix them up.
BEFORE, AFTER = ("bob", "alice"), ("alice", "bob")


def block(heading: str, number: int = 0) -> str:
    """The commands of one section of the page."""
    section = re.split(r"^#+ ", PAGE.read_text(), flags=re.M)
    [text] = [part for part in section if part.startswith(f"{heading}\n")]
    return re.findall(r"^```sh\n(.*?)^```", text, flags=re.M | re.S)[number]


class Operator:
    """An operator's computer, from which ``debian@hub.example.org`` is one machine.

    :param folder: where the operator works.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "bin").mkdir(parents=True)

    def does(self, commands: str, machine: Machine) -> str:
        """Run commands; what follows a bare ``ssh`` is typed on the machine."""
        config = write_config(machine.folder, "hub.example.org", machine.port(22), machine.user, machine.key)
        ssh = self.folder / "bin" / "ssh"
        ssh.write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F {shlex.quote(str(config))} "$@"\n')
        ssh.chmod(0o755)
        here, _, there = commands.partition("ssh debian@hub.example.org\n")
        if there:
            here += f"ssh debian@hub.example.org 'set -e\n{there}'\n"
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        return run(
            ["bash", "-e", "-o", "pipefail", "-c", here], cwd=self.folder, env={"PATH": path}, timeout=900
        ).stdout


@pytest.mark.allow("hubsmith-apply|refused|missing", "the second machine begins without settings, as the page says")
def test_a_hub_is_restored_from_files(testbed: Testbed, image: Path, tmp_path: Path) -> None:
    operator = Operator(tmp_path / "operator")
    old = start(testbed, image, "lost", settings(BEFORE, quota="64M"))
    old.succeed("install --owner=alice --mode=0600 /dev/stdin /home/alice/thesis", stdin="mine\n")
    old.succeed("setfacl --modify=u:bob:r /home/alice/thesis")
    made = Hub(old).person("alice").request("POST", "/hub/api/users/alice/tokens", json={"note": "kept"})
    token = made.json()["token"]
    uids, secrets = "id -u alice; id -u bob", "sha256sum < /var/lib/hubsmith/kept/secrets.json"
    before = old.succeed(f"{uids}; {secrets}")
    operator.does(block("Copy of the files"), old)

    old.succeed("rm /home/alice/thesis")
    operator.does(block("One home"), old)
    found = old.succeed("cd /home/alice/restored; stat --format='%U %a' . thesis; cat thesis")
    assert found == "alice 755\nalice 640\nmine\n"  # the group's bits of the file show the mask of its ACL
    old.discard()

    hardware = replace(HARDWARE, volumes=(Volume("new-data", 4),))
    new = Machine(testbed, "restored", image, hardware)
    new.start()
    new.wait_for_boot(600)
    state, homes = block("The whole hub, from files"), block("The whole hub, from files", 1)
    text = settings(AFTER, quota="64M", data={"volume": "new-data"})
    new.succeed("cat > /run/edited", stdin=text)
    # The editor of the page needs a person.
    state, edits = re.subn(r"^sudo nano (\S+).*$", r"sudo cp /run/edited \1", state, flags=re.M)
    assert edits == 1
    operator.does(state, new)
    operator.does(homes, new)
    new.wait_for_https("/hub/login", timeout=HUB)
    assert new.succeed(f"{uids}; {secrets}") == before
    assert new.succeed("stat --format=%U /home/alice/thesis; cat /home/alice/thesis; findmnt -no SOURCE /home") == (
        "alice\nmine\n/dev/vdb2\n"
    )
    assert "user:bob:r--" in new.succeed("getfacl --omit-header /home/alice/thesis")
    assert new.execute("dd if=/dev/zero of=/home/alice/fill bs=1M count=80").rc != 0, "the quota holds"
    alice = Hub(new).person("alice")
    headers = {"Authorization": f"token {token}"}
    assert alice.request("GET", "/hub/api/user", headers=headers).json()["name"] == "alice"
