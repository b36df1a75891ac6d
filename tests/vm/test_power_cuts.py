"""The power goes at the worst moments: while the first boot lays out the disk, and while somebody's work is written."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable

import pytest
from people import settings

from hubsmith.deploy.user_data import user_data
from hubsmith.vm.hardware import Hardware
from hubsmith.vm.linux import Machine
from hubsmith.vm.metadata import Instance
from hubsmith.vm.waits import scaled

pytestmark = [pytest.mark.vm, pytest.mark.modules("jupyterhub"), pytest.mark.slow]

HARDWARE = Hardware(memory_mb=2048, disk_size_gb=20)
#: The power goes when the first boot has written that often to its disk, which is the same place on every host. Seen:
#: up to 165 systemd-repart makes two file systems and then the table; up to 185 /var is filled and journald begins;
#: up to 215 cloud-init writes keys, accounts and settings.
WRITES = (1, 60, 120, 165, 180, 208)
#: More moments, at random, for a longer series.
MORE = int(os.environ.get("HUBSMITH_POWER_CUTS") or 0)
#: How often the power goes while a machine that is set up writes.
CUTS = 2 + MORE


def written(machine: Machine) -> int:
    """How often the guest has written to its system disk since it was started."""
    drives = machine.qmp.execute("query-blockstats")
    return int(next(drive["stats"]["wr_operations"] for drive in drives if drive.get("device") == "disk"))


def assert_sound(machine: Machine) -> None:
    """The partitions are all there, and /var holds all that the image brings for it."""
    assert "No problems found" in machine.succeed("sgdisk --verify /dev/vda")
    labels = machine.succeed("lsblk --list --noheadings --output PARTLABEL /dev/vda").split()
    assert labels == ["esp", "bios", "root-a", "root-a-verity", "root-b", "root-b-verity", "state", "homes"]
    assert machine.succeed("stat --file-system --format=%T /var /home").split() == ["xfs", "xfs"]
    machine.succeed("cmp /usr/lib/hubsmith/manifest.sha256 /var/lib/hubsmith/image")
    # An empty file is what a power cut leaves of one that was not flushed.
    lost = (
        "cd /usr/share/factory/var && find . -type f -size +0 -exec sh -c 'test -s \"/var/$1\" || echo \"$1\"' - {} ';'"
    )
    assert machine.succeed(lost) == ""


@pytest.mark.parametrize("moment", [*WRITES, *random.SystemRandom().sample(range(2, 215), MORE)])
def test_a_power_cut_in_the_first_boot(make_machine: Callable[..., Machine], moment: int) -> None:
    text = settings(("alice",))
    machine = make_machine("cut", HARDWARE, instance=Instance(hostname="cut", user_data=user_data(text)))
    machine.start()
    machine.wait_until(f"write number {moment}", lambda: written(machine) >= moment, 300, interval=0.002)
    machine.crash()
    machine.start()
    machine.wait_for_boot(600)
    assert_sound(machine)
    assert machine.succeed("cat /etc/hubsmith/settings.toml") == text
    # A key that was half written would keep everybody out.
    machine.succeed("for key in /etc/ssh/ssh_host_*_key; do ssh-keygen -y -f $key; done")


#: Writes numbered lines to both file systems, each flushed before the next, and tells those that are safe.
WRITER = """
import os, sys
files = [os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND) for path in ("/var/diary", "/home/diary")]
number = int(sys.argv[1])
while True:
    number += 1
    for file in files:
        os.write(file, b"%d\\n" % number)
        os.fsync(file)
    with open("/run/safe.new", "w") as safe:
        safe.write(str(number))
    os.rename("/run/safe.new", "/run/safe")
"""


def test_what_was_flushed_is_there_after_every_power_cut(bare: Machine) -> None:
    bare.succeed("cat > /var/writer.py; sync", stdin=WRITER)
    safe = 0
    for _ in range(CUTS):
        bare.succeed(f"systemd-run --quiet --unit=writer python3 /var/writer.py {safe}")
        bare.wait_until("lines to be written", lambda: bare.execute("test -e /run/safe").rc == 0, 60)
        time.sleep(scaled(random.uniform(1, 6)))
        told = int(bare.succeed("cat /run/safe"))
        assert told > safe
        bare.crash()
        bare.start()
        bare.wait_for_ssh(400)
        bare.wait_for_unit("local-fs.target")
        for path in ("/var/diary", "/home/diary"):
            lines = bare.succeed(f"cat {path}").splitlines()
            assert lines[:told] == [str(number) for number in range(1, told + 1)], path
            safe = max(told, len(lines))
        # Both go on from the same line.
        bare.succeed(f"for file in /var/diary /home/diary; do seq {safe} > $file; done; sync")
    bare.wait_for_boot(400)
    assert_sound(bare)
