"""Instance metadata, as clouds provide it to their machines. The image is not modified.

| source | how the guest gets it | how cloud-init recognises it |
|---|---|---|
| ``nocloud`` | a volume labelled ``cidata`` | the label |
| ``config-drive`` | a volume labelled ``config-2`` | the label |
| ``openstack`` | HTTP at 169.254.169.254, ``/openstack/latest/`` | SMBIOS product ``OpenStack Nova`` |
| ``ec2`` | HTTP at 169.254.169.254, ``/latest/`` with session tokens | SMBIOS UUID and serial ``ec2…`` |
| ``none`` | no metadata | |

Formats: https://docs.openstack.org/nova/latest/user/metadata.html,
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-instance-metadata.html and
https://docs.cloud-init.io/en/latest/reference/datasources/nocloud.html.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import shutil
import sys
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from hubsmith.run import run
from hubsmith.vm import metadata_server
from hubsmith.vm.command import Attachments

Source = Literal["nocloud", "config-drive", "openstack", "ec2", "none"]
SOURCES: tuple[Source, ...] = ("nocloud", "config-drive", "openstack", "ec2", "none")

ADDRESS = "169.254.169.254"
#: Network for QEMU that contains the address of the metadata service. The host is then 169.254.2.2.
NETWORK = "169.254.0.0/16"
SEED = "seed.iso"
SERVICE = "metadata"


@dataclass(frozen=True)
class Instance:
    """Metadata of one machine.

    :ivar hostname: host name without a domain.
    :ivar user_data: cloud-config, script, or multipart of them.
    :ivar ssh_keys: public keys in OpenSSH format.
    :ivar instance_id: UUID. cloud-init treats a machine with another ID as new. By default derived from the hostname.
    :ivar public_ipv4: floating IP, which the guest cannot see on its interfaces.
    :ivar vendor_data: data added by the cloud; supported by ``nocloud``, ``config-drive`` and ``openstack``.
    :ivar network: for ``nocloud`` a network configuration (version 2), for ``config-drive`` a ``network_data.json``;
        without it the guest uses DHCP.
    """

    hostname: str
    user_data: str = "#cloud-config\n{}\n"
    ssh_keys: tuple[str, ...] = ()
    instance_id: str = ""
    public_ipv4: str = "203.0.113.5"
    vendor_data: str = ""
    network: Mapping[str, object] = field(default_factory=dict)

    @property
    def identity(self) -> uuid.UUID:
        """UUID of the instance."""
        if self.instance_id:
            return uuid.UUID(self.instance_id)
        return uuid.UUID(bytes=hashlib.sha256(self.hostname.encode()).digest()[:16], version=4)


def attach(folder: Path, source: Source, instance: Instance, mac: str) -> Attachments:
    """Write the metadata into a machine's folder.

    :param mac: MAC address of the first NIC, which identifies networks in EC2 metadata.
    :returns: devices for QEMU that deliver the metadata.
    :raises hubsmith.run.CommandFailed: the ISO image cannot be created.
    """
    if source == "nocloud":
        return _volume(folder, "cidata", _nocloud(instance))
    if source == "config-drive":
        return _volume(folder, "config-2", {**_openstack(instance), **_ec2(instance, mac)})
    if source == "none":
        return Attachments()
    tree = _ec2(instance, mac) if source == "ec2" else {**_openstack(instance), **_ec2(instance, mac)}
    served = folder / SERVICE
    _write(served / metadata_server.TREE, tree)
    if source == "ec2":
        # cloud-init's ds-identify requires that both begin with "ec2", DataSourceEc2 that they are equal.
        identity = f"ec2{str(instance.identity)[3:]}"
        smbios = {"manufacturer": "Amazon EC2", "product": "t3.small", "uuid": identity, "serial": identity}
    else:
        smbios = {"manufacturer": "OpenStack Foundation", "product": "OpenStack Nova", "uuid": str(instance.identity)}
    # QEMU starts one process per connection, which ends with the machine and needs no port on the host.
    server = shlex.join([sys.executable, "-I", "-S", metadata_server.__file__, str(served.resolve())])
    return Attachments(smbios=smbios, network=NETWORK, guest_forwards={f"{ADDRESS}:80": server})


def requests(folder: Path) -> list[str]:
    """Return the log of the metadata service: lines such as ``GET /latest/meta-data/public-ipv4 200``."""
    log = folder / SERVICE / metadata_server.LOG
    return log.read_text().splitlines() if log.exists() else []


def password(folder: Path) -> str | None:
    """Return the encrypted administrator password that the guest posted, or None."""
    posted = folder / SERVICE / metadata_server.PASSWORD
    return posted.read_text() if posted.exists() else None


Tree = dict[str, str]


def _nocloud(instance: Instance) -> Tree:
    meta = {
        "instance-id": str(instance.identity),
        "local-hostname": instance.hostname,
        "public-keys": list(instance.ssh_keys),
        "public-ipv4": instance.public_ipv4,
    }
    # JSON is YAML.
    tree = {"meta-data": json.dumps(meta), "user-data": instance.user_data}
    if instance.vendor_data:
        tree["vendor-data"] = instance.vendor_data
    if instance.network:
        tree["network-config"] = json.dumps(instance.network)
    return tree


def _openstack(instance: Instance) -> Tree:
    meta = {
        "uuid": str(instance.identity),
        "name": instance.hostname,
        "hostname": f"{instance.hostname}.novalocal",
        "public_keys": {f"key{number}": key for number, key in enumerate(instance.ssh_keys)},
        "availability_zone": "nova",
        "launch_index": 0,
        "project_id": "0" * 32,
        "meta": {},
        "devices": [],
    }
    tree = {"meta_data.json": json.dumps(meta), "user_data": instance.user_data}
    # A JSON string is the cloud-config itself; an object would hold several.
    tree["vendor_data.json"] = json.dumps(instance.vendor_data) if instance.vendor_data else "{}"
    tree["vendor_data2.json"] = "{}"
    if instance.network:
        tree["network_data.json"] = json.dumps(instance.network)
    return {f"openstack/{version}/{name}": text for version in ("2018-08-27", "latest") for name, text in tree.items()}


def _ec2(instance: Instance, mac: str) -> Tree:
    tree = {
        "ami-id": "ami-00000001",
        "hostname": instance.hostname,
        "local-hostname": instance.hostname,
        "public-hostname": instance.hostname,
        "instance-id": f"i-{instance.identity.hex[:17]}",
        "instance-type": "t3.small",
        "local-ipv4": "169.254.2.15",
        "public-ipv4": instance.public_ipv4,
        "placement/availability-zone": "nova",
        "security-groups": "default",
    }
    nic = {"mac": mac, "device-number": "0", "local-ipv4s": "169.254.2.15", "interface-id": "eni-00000001"}
    tree |= {f"network/interfaces/macs/{mac}/{name}": text for name, text in nic.items()}
    for number, key in enumerate(instance.ssh_keys):
        tree[f"public-keys/{number}/openssh-key"] = key
    if instance.ssh_keys:
        listing = "\n".join(f"{number}=key{number}" for number in range(len(instance.ssh_keys)))
        tree[f"public-keys/{metadata_server.INDEX}"] = listing
    files = {f"meta-data/{name}": text for name, text in tree.items()}
    files["user-data"] = instance.user_data
    return {f"{version}/{name}": text for version in ("2009-04-04", "latest") for name, text in files.items()}


def _write(root: Path, tree: Tree) -> None:
    shutil.rmtree(root, ignore_errors=True)
    for name, text in tree.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def _volume(folder: Path, label: str, tree: Tree) -> Attachments:
    _write(folder / "seed", tree)
    image = folder / SEED
    run(
        ["xorriso", "-as", "mkisofs", "-quiet", "-V", label, "-J", "-R", "-o", image, folder / "seed"],
        timeout=60,
    )
    # The image holds user-data, which is secret. Delete the second copy.
    image.chmod(0o600)
    shutil.rmtree(folder / "seed")
    return Attachments(drives=(SEED,))
