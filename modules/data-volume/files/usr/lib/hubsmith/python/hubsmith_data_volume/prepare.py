"""Mount the data volume that the settings name. Reads apply's JSON on standard input.

The homes and the kept state of all modules are on it, so that a new machine with the volume continues where the old one
ended. A blank volume gets two partitions. A volume with other data is never changed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from hubsmith.guest.context import read_context
from hubsmith.guest.programs import mounted, run

PARTITIONS = Path("/usr/lib/hubsmith/data-volume.d")
#: Labels of the partitions defined there.
STATE, PEOPLE = "hub-state", "hub-homes"
DATA = Path("/var/lib/hubsmith/data")
HOMES = Path("/home")
#: File for the status item.
DATA_FILE = Path("/run/hubsmith/data.json")
#: Seconds to wait, because a cloud may attach a volume after the machine has started.
ATTACHED_WITHIN = 60
#: Seconds to wait until the kernel and udev know new partitions.
APPEARED_WITHIN = 60
MIB = 1024**2
# NAME is needed: without it lsblk does not nest partitions below their disk.
COLUMNS = "NAME,PATH,TYPE,FSTYPE,PARTLABEL,SERIAL,RO,SIZE"


#: A disk as `lsblk` describes it.
Disk = dict[str, Any]


def source_of(path: Path) -> str:
    """Return the topmost device mounted at a path; empty if there is none."""
    return mounted(path)[0]


def parts(disk: Disk) -> dict[str, str]:
    """Return the paths of a disk's partitions by label."""
    return {str(part["partlabel"]): part["path"] for part in disk.get("children", ())}


def disks() -> list[Disk]:
    """Return all writable disks except the system disk."""
    run("udevadm", "settle", "--timeout=10")
    found = json.loads(run("lsblk", "--json", "--bytes", "--output", COLUMNS))["blockdevices"]
    system = os.path.realpath("/dev/disk/by-partlabel/state")
    return [disk for disk in found if disk["type"] == "disk" and not disk["ro"] and system not in parts(disk).values()]


def is_named(disk: Disk, volume: str) -> bool:
    """Whether a disk has the serial number from the settings. virtio-blk passes on only its first 20 characters."""
    return bool(disk["serial"]) and disk["serial"] in (volume, volume[:20])


def is_ours(disk: Disk) -> bool:
    return {STATE, PEOPLE} <= parts(disk).keys()


def is_blank(disk: Disk) -> bool:
    """Whether a disk has no file system or partition table, and zeros in its first and last MiB.

    A volume whose preparation was interrupted is blank, too, because its partition table is written last.
    """
    if disk["fstype"] or disk.get("children"):
        return False
    with Path(disk["path"]).open("rb") as file:
        first = file.read(MIB)
        file.seek(max(0, disk["size"] - MIB))
        return not any(first) and not any(file.read(MIB)) and not run("wipefs", "--no-act", disk["path"]).strip()


def choose(found: list[Disk], volume: str) -> Disk | str:
    """Return the disk to use, or the reason why there is none."""
    named = found if volume == "auto" else [disk for disk in found if is_named(disk, volume)]
    if not named:
        there = ", ".join(f"{disk['path']} ({disk['serial'] or 'no serial number'})" for disk in found) or "none"
        return f"no volume {volume!r} is attached; attached: {there}"
    ours = [disk for disk in named if is_ours(disk)]
    candidates = ours or [disk for disk in named if is_blank(disk)]
    if len(candidates) > 1:
        return (
            f"which volume? {', '.join(disk['path'] for disk in candidates)}: name one's serial number in data.volume"
        )
    if candidates:
        return candidates[0]
    held = ", ".join(f"{disk['path']} ({disk['fstype'] or 'with something on it'})" for disk in named)
    return f"neither blank nor the data volume of a hub: {held}; it is left alone"


def wait_for(volume: str) -> Disk:
    deadline = time.monotonic() + ATTACHED_WITHIN
    while isinstance(chosen := choose(disks(), volume), str):
        if time.monotonic() > deadline:
            sys.exit(chosen)
        time.sleep(1)
    return chosen


def partition(disk: Disk) -> dict[str, str]:
    """Partition a blank disk, or extend the last partition of a disk that has grown.

    :returns: paths of the partitions by label.
    """
    empty = "refuse" if is_ours(disk) else "require"
    run("systemd-repart", f"--definitions={PARTITIONS}", f"--empty={empty}", "--dry-run=no", disk["path"])
    deadline = time.monotonic() + APPEARED_WITHIN
    while time.monotonic() < deadline:
        again = next((one for one in disks() if one["path"] == disk["path"]), disk)
        if is_ours(again):
            return parts(again)
        time.sleep(0.5)
    sys.exit(f"{disk['path']}: its partitions did not appear within {APPEARED_WITHIN} s")


def mount(source: object, target: Path, options: str) -> None:
    target.mkdir(mode=0o700, exist_ok=True)
    run("mount", "-t", "xfs", "-o", f"nosuid,nodev{options}", source, target)
    run("xfs_growfs", target)


def copy_whole(source: Path, target: Path) -> None:
    """Copy a folder atomically and durably."""
    new = target.with_name(f".{target.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    run("cp", "--archive", source, new)
    run("sync", "--file-system", new)
    new.rename(target)
    run("sync", "--file-system", target)


def lay_over_state(path: Path) -> None:
    """Mount the volume's copy of a state folder over the folder. If there is no copy, make it from the folder."""
    if source_of(path):
        return
    kept = DATA / path.relative_to("/")
    if not kept.exists():
        copy_whole(path, kept)
    run("mount", "--bind", kept, path)
    run("systemd-tmpfiles", "--create", f"--prefix={path}")


def lay_over_homes(source: str) -> None:
    """Mount the volume's homes at /home, unless the system disk has homes already."""
    if source_of(HOMES) == source:
        return
    if people := sorted(home.name for home in HOMES.iterdir() if home.is_dir() and any(home.iterdir())):
        sys.exit(
            f"the system disk has homes already ({', '.join(people[:5])}), and the volume would hide them: "
            "copy them to the volume or delete them first (docs/operators/data-volume.md)"
        )
    # Unmount the system disk's /home first: xfs_growfs and xfs_quota use a folder's first entry in the mount table.
    if source_of(HOMES):
        run("umount", HOMES)
    mount(source, HOMES, ",usrquota,prjquota")
    HOMES.chmod(0o755)


def main() -> None:
    os.umask(0o022)
    context = read_context()
    volume, mounted = context["settings"]["data"]["volume"], source_of(DATA)
    if mounted:
        disk = next(disk for disk in disks() if mounted in parts(disk).values())
        if not volume or (volume != "auto" and not is_named(disk, volume)):
            sys.exit(f"the data volume {disk['path']} is in use: restart the machine to go on with another one or none")
        made = parts(disk)
    elif not volume:
        return
    else:
        if subprocess.run(["systemctl", "--quiet", "is-active", "hubsmith-hub.target"], check=False).returncode == 0:
            sys.exit("the hub runs on the system disk: restart the machine, a volume is taken before the hub starts")
        made = partition(wait_for(volume))
        mount(made[STATE], DATA, "")
    for path in context["kept"]:
        lay_over_state(Path(path))
    lay_over_homes(made[PEOPLE])
    DATA_FILE.write_text(json.dumps({"device": source_of(DATA)}))


if __name__ == "__main__":
    main()
