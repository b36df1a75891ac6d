"""A data volume outlives its machine: the next one goes on with the homes, the accounts and the hub's own state."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hub_fixtures import HARDWARE, HUB, Hub, start
from people import settings

from hubsmith.run import run
from hubsmith.vm.command import DISK, volume_file
from hubsmith.vm.hardware import Volume
from hubsmith.vm.linux import Machine
from hubsmith.vm.testbed import Testbed

pytestmark = [pytest.mark.vm, pytest.mark.modules("jupyterhub"), pytest.mark.slow]

#: As a cloud names its volumes; of a virtio-blk disk the guest sees the first 20 characters.
SERIAL = "2f7c1d5e-6a0b-4c39-9"
SETTINGS = settings(("alice", "bob"), quota="64M", data={"volume": f"{SERIAL}d53-0c1c8f1f6b1e"})
WITH_VOLUME = replace(HARDWARE, volumes=(Volume(SERIAL, 4),))
KEPT = ("/var/lib/hubsmith/kept", "/var/lib/hubsmith/tls", "/var/lib/jupyterhub", "/etc/letsencrypt")
SHOW_CERTIFICATE = "openssl s_client -connect localhost:443"


def identity(machine: Machine) -> dict[str, str]:
    """What people would notice if it changed."""
    return {
        "secrets": machine.succeed("sha256sum < /var/lib/hubsmith/kept/secrets.json"),
        "certificate": machine.succeed(f"{SHOW_CERTIFICATE} < /dev/null 2>&1 | openssl x509 -noout -serial"),
        "uids": machine.succeed("id -u alice; id -u bob"),
    }  # fmt: skip


def size_of_homes(machine: Machine) -> int:
    return int(machine.succeed("df --output=size --block-size=1M /home | tail -n 1"))


def item(machine: Machine) -> tuple[str, str]:
    """State and sentence of the status about the volume."""
    items = json.loads(machine.execute("hubsmith status --json").stdout)["items"]
    found = next(one for one in items if one["name"] == "data")
    return found["state"], found["why"]


def test_a_new_machine_goes_on_with_the_volume_of_the_old_one(testbed: Testbed, image: Path) -> None:
    old = start(testbed, image, "old", SETTINGS, WITH_VOLUME)
    for path in KEPT:
        assert old.succeed(f"findmnt --noheadings --output SOURCE {path}").startswith("/dev/vdb1["), path
    assert "prjquota" in old.succeed("findmnt --noheadings --output OPTIONS --source /dev/vdb2")
    assert item(old)[0] == "ready"
    old.succeed("echo mine > /home/alice/diary; chown alice: /home/alice/diary")
    assert old.execute("dd if=/dev/zero of=/home/bob/fill bs=1M count=80").rc != 0, "the quota holds on the volume"
    made = Hub(old).person("alice").request("POST", "/hub/api/users/alice/tokens", json={"note": "kept"})
    token = made.json()["token"]
    before, size = identity(old), size_of_homes(old)
    old.restart(600)
    old.wait_for_https("/hub/login", timeout=HUB)
    assert identity(old) == before
    # Again is nothing new; another volume or none is for the next start.
    assert old.succeed("hubsmith apply", timeout=300).startswith("settings applied: 0 files changed")
    old.succeed(f"sed -i 's/{SERIAL}/other/' /etc/hubsmith/settings.toml")
    refused = old.execute("hubsmith apply", timeout=300)
    assert (refused.rc, "is in use: restart the machine" in refused.stderr) == (3, True)
    old.shutdown(300)

    run(["qemu-img", "resize", "-q", "-f", "qcow2", old.folder / volume_file(SERIAL), "6G"])
    new = Machine(testbed, "new", image, WITH_VOLUME, instance=old.instance)
    (old.folder / volume_file(SERIAL)).rename(new.folder / volume_file(SERIAL))
    assert not (new.folder / DISK).exists()
    new.start()
    new.wait_for_boot(600)
    new.wait_for_https("/hub/login", timeout=HUB)
    assert identity(new) == before
    assert new.succeed("stat -c %U /home/alice/diary; cat /home/alice/diary") == "alice\nmine\n"
    assert size_of_homes(new) > size + 1500
    alice = Hub(new).person("alice")
    headers = {"Authorization": f"token {token}"}
    assert alice.request("GET", "/hub/api/user", headers=headers).json()["name"] == "alice"
    # The operator's home is of this machine, and SSH finds the keys in it.
    assert new.succeed("findmnt --noheadings --output TARGET --target ~", root=False).strip() == "/var"


@pytest.mark.allow("10-data-volume|refused", "that is what is tested")
def test_a_hub_without_its_volume_does_not_start_on_the_system_disk(bare: Machine) -> None:
    bare.succeed("cat > /etc/hubsmith/settings.toml", stdin=SETTINGS)
    refused = bare.execute("hubsmith apply", timeout=300)
    assert refused.rc == 3
    assert f"no volume '{SERIAL}d53-0c1c8f1f6b1e' is attached; attached: " in refused.stderr
    assert bare.execute("ls /var/lib/hubsmith/kept").stdout == ""
    assert bare.get("/hub/login").status == 503
    # On the system disk after all; and from there not back in silence.
    bare.succeed("cat > /etc/hubsmith/settings.toml", stdin=settings())
    bare.succeed("hubsmith apply", timeout=300)
    bare.wait_for_https("/hub/login", timeout=HUB)
    bare.succeed("cat > /etc/hubsmith/settings.toml", stdin=SETTINGS)
    refused = bare.execute("hubsmith apply", timeout=300)
    assert (refused.rc, "the hub runs on the system disk" in refused.stderr) == (3, True)
