"""Virtual machines for tests and local deployments. This library knows nothing about hubs.

>>> with Testbed() as testbed:
...     machine = Machine(testbed, "hub", Path("out/master/master.qcow2"), Hardware(disk_size_gb=20))
...     machine.start()
...     machine.wait_for_boot()
...     machine.succeed("true")
"""

from hubsmith.vm.hardware import Hardware, Volume
from hubsmith.vm.linux import Machine
from hubsmith.vm.machine import Snapshot, VirtualMachine
from hubsmith.vm.metadata import SOURCES, Instance, Source
from hubsmith.vm.state_dir import PersistentMachines
from hubsmith.vm.testbed import Testbed

__all__ = [
    "SOURCES",
    "Hardware",
    "Instance",
    "Machine",
    "PersistentMachines",
    "Snapshot",
    "Source",
    "Testbed",
    "VirtualMachine",
    "Volume",
]
