"""Time from power-on to the login page, compared with a stock Debian of the same packages.

The stock machine is set up as in a tutorial: the locked packages installed by mmdebstrap with their default units,
ext4, a generic initrd, cloud-init as configured by Debian, and NGINX in front of a default JupyterHub. Its proxy is a
separate unit, because a hub waits only ten seconds for a proxy that it starts itself, which is too short under
emulation.

Both machines boot for the first time, with the same hardware, metadata and accelerator. The stock machine skips
firmware and boot loader: QEMU loads its kernel.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import bcrypt

from hubsmith.archives.cache import Cache
from hubsmith.bench import build
from hubsmith.build import nix
from hubsmith.deploy.user_data import user_data
from hubsmith.lock import inputs_of
from hubsmith.lock.files import committed_path, load_matching
from hubsmith.output import Output
from hubsmith.run import run
from hubsmith.vm.hardware import Hardware
from hubsmith.vm.linux import Machine
from hubsmith.vm.metadata import Instance
from hubsmith.vm.testbed import Testbed

#: Disk of the stock machine in GiB, about half of which is used.
STOCK_DISK = 6
FILES: Mapping[str, str] = {
    "etc/fstab": "LABEL=root / ext4 defaults 0 1\n",
    "etc/systemd/system/jupyterhub.service": (
        "[Unit]\nAfter=network.target\n[Service]\nWorkingDirectory=/srv\nEnvironment=CONFIGPROXY_AUTH_TOKEN=measured\n"
        "ExecStart=/opt/jupyterhub/bin/jupyterhub --config /etc/jupyterhub_config.py\n"
        "[Install]\nWantedBy=multi-user.target\n"
    ),
    "etc/systemd/system/proxy.service": (
        "[Unit]\nAfter=network.target\n[Service]\nEnvironment=CONFIGPROXY_AUTH_TOKEN=measured\n"
        "ExecStart=/opt/configurable-http-proxy/bin/configurable-http-proxy --ip 127.0.0.1 --api-ip 127.0.0.1\n"
        "[Install]\nWantedBy=multi-user.target\n"
    ),
    "etc/jupyterhub_config.py": (
        "c.ConfigurableHTTPProxy.should_start = False\nc.JupyterHub.bind_url = 'http://127.0.0.1:8000'\n"
    ),
    "etc/nginx/sites-enabled/default": (
        "server { listen 443 ssl; ssl_certificate /etc/ssl/hub.pem; ssl_certificate_key /etc/ssl/hub.key;\n"
        "location / { proxy_pass http://127.0.0.1:8000; proxy_set_header Host $host; } }\n"
    ),
}
SETTINGS = """[[users]]
name = "teacher"
password_hash = "{hash}"
"""


def stock(root: Path, folder: Path) -> tuple[Path, Hardware]:
    """Create the stock machine's disk.

    :param root: project tree.
    :param folder: folder for the disk, with 8 GB of free space.
    :returns: the disk, and the hardware that boots it.
    """
    lock = load_matching(committed_path(root, build.IMAGE), inputs_of(root, build.IMAGE))
    tree = build.bootstrap(lock, folder)
    with nix.expression(root, build.IMAGE) as arguments:
        envs = run(
            ["nix-build", *arguments, "--attr", f"stages.{build.IMAGE}.envs", "--no-out-link"],
            env=nix.nix_environment(), timeout=1200,
        ).stdout.split()  # fmt: skip
    for env in envs:
        run(["tar", "--extract", "--file", env, "--directory", tree], timeout=600)
    for name, text in FILES.items():
        (tree / name).unlink(missing_ok=True)
        (tree / name).write_text(text)
    run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=hub", "-days", "30",
         "-keyout", tree / "etc/ssl/hub.key", "-out", tree / "etc/ssl/hub.pem"],
    )  # fmt: skip
    # Units that Debian does not enable but this machine needs.
    run(["chroot", tree, "systemctl", "enable", "jupyterhub", "proxy", "systemd-networkd", "systemd-resolved"])
    disk = folder / "stock.raw"
    run(["truncate", "--size", f"{STOCK_DISK}G", disk])
    run(["mke2fs", "-q", "-t", "ext4", "-L", "root", "-d", tree, disk], timeout=900)
    qcow2 = folder / "stock.qcow2"
    run(["qemu-img", "convert", "-O", "qcow2", disk, qcow2], timeout=900)
    disk.unlink()
    [kernel], [initrd] = (list((tree / "boot").glob(f"{name}-*")) for name in ("vmlinuz", "initrd.img"))
    line = "root=LABEL=root ro quiet console=ttyS0"
    return qcow2, Hardware(
        firmware="bios", disk_size_gb=20, extra=("-kernel", str(kernel), "-initrd", str(initrd), "-append", line)
    )


def until_login(testbed: Testbed, name: str, image: Path, hardware: Hardware, user_data: str) -> dict[str, float]:
    """Boot a disk for the first time.

    :returns: seconds until the login page answers, and MB of memory in use one minute later.
    """
    machine = Machine(testbed, name, image, hardware, instance=Instance(hostname=name, user_data=user_data))
    print(f"bench: boot of {name}", file=sys.stderr, flush=True)
    began = time.monotonic()
    machine.start()
    machine.wait_for_https("/hub/login", timeout=900)
    seconds = round(time.monotonic() - began, 1)
    machine.wait_for_ssh(300)
    time.sleep(60)
    used = float(machine.succeed("free --mega | awk '/^Mem:/ { print $3 }'"))
    print(machine.succeed("systemd-analyze; systemd-analyze critical-chain --no-pager", timeout=120), file=sys.stderr)
    print(f"bench: {seconds} s", file=sys.stderr, flush=True)
    machine.discard()
    return {"seconds": seconds, "idle_mb": used}


def measure(root: Path) -> dict[str, float]:
    """Run the benchmark: seconds, ratio and idle memory."""
    secret = bcrypt.hashpw(b"for this measurement only", bcrypt.gensalt(4)).decode()
    ours = user_data(SETTINGS.format(hash=secret))
    with TemporaryDirectory(prefix="hubsmith-bench-", dir=Cache().folder.parent) as scratch, Testbed() as testbed:
        image, hardware = stock(root, Path(scratch))
        theirs = until_login(testbed, "stock", image, hardware, "#cloud-config\n{}\n")
        image = Output.of(root, build.IMAGE).disk
        mine = until_login(testbed, "hubsmith", image, Hardware(disk_size_gb=20), ours)
    found = {
        f"{who}_{what}": number for who, one in (("stock", theirs), ("ours", mine)) for what, number in one.items()
    }
    return {**found, "boot_to_stock": round(mine["seconds"] / theirs["seconds"], 2)}
