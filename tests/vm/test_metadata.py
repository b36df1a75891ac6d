"""Host name, SSH keys and settings from every kind of metadata that clouds have; a portal's user-data beside ours."""

from __future__ import annotations

import json
from collections.abc import Callable
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText

import pytest
from people import settings

from hubsmith.deploy.user_data import user_data
from hubsmith.vm import metadata
from hubsmith.vm.hardware import Hardware
from hubsmith.vm.linux import Machine
from hubsmith.vm.metadata import Instance, Source

pytestmark = [pytest.mark.vm, pytest.mark.modules("jupyterhub")]

HARDWARE = Hardware(memory_mb=2048, disk_size_gb=20)
#: How cloud-init names the source that it took.
NAMES: dict[Source, str] = {
    "config-drive": "DataSourceConfigDrive",
    "openstack": "DataSourceOpenStack",
    "ec2": "DataSourceEc2",
    "nocloud": "DataSourceNoCloud",
}
#: What a launch from a portal such as Exosphere sends along: a boothook, scripts, and a cloud-config with an account of
#: its own, packages and commands. The root is sealed, so some of it cannot work.
BOOTHOOK = "#!/bin/sh\necho boothook >> /run/portal\n"
PASSPHRASE = """#!/bin/sh
echo passphrase >> /run/portal
curl --silent --fail --data three-random-words http://169.254.169.254/openstack/latest/password
"""
SCRIPT = "#!/bin/bash\necho script >> /run/portal\n"
CLOUD_CONFIG = {
    "users": ["default", {
        "name": "exouser", "shell": "/bin/bash", "groups": "sudo, adm", "sudo": ["ALL=(ALL) NOPASSWD:ALL"],
        "lock_passwd": False,
    }],
    "ssh_pwauth": True,
    "package_update": True,
    "package_upgrade": True,
    "packages": ["git", "python3-virtualenv"],
    "bootcmd": [["sh", "-c", "echo bootcmd >> /run/portal"]],
    "runcmd": [
        "echo runcmd >> /run/portal",
        "virtualenv /opt/ansible-venv; . /opt/ansible-venv/bin/activate; pip install ansible-core",
    ],
    "mount_default_fields": ["None", "None", "ext4", "user,exec,rw,auto,nofail", "0", "2"],
}  # fmt: skip


def multipart(ours: str) -> str:
    """The portal's user-data with one more part, that of the person who launches."""
    message = MIMEMultipart()
    for kind, text in (
        ("cloud-boothook", BOOTHOOK),
        ("x-shellscript", PASSPHRASE),
        ("x-shellscript", SCRIPT),
        ("cloud-config", "#cloud-config\n" + json.dumps(CLOUD_CONFIG)),
        ("cloud-config", ours),
    ):
        message.attach(MIMEText(text, kind, "us-ascii"))
    return message.as_string()


def launch(make_machine: Callable[..., Machine], source: Source, user_data: str) -> Machine:
    """Start a machine and wait until cloud-init is through and the settings were judged."""
    name = f"from-{source}"
    machine = make_machine(name, HARDWARE, source=source, instance=Instance(hostname=name, user_data=user_data))
    machine.start()
    machine.wait_for_ssh(400)  # which proves the key
    machine.wait_for_unit("hubsmith-apply.service", timeout=240)
    machine.execute("cloud-init status --wait", timeout=240)
    return machine


def assert_is_what_it_was_told(machine: Machine, source: Source, text: str) -> list[str]:
    """Name, key, file and settings; returns what cloud-init could not do."""
    result = json.loads(machine.succeed("cat /run/cloud-init/result.json"))["v1"]
    assert result["datasource"].startswith(NAMES[source])
    assert machine.succeed("hostname").strip() == f"from-{source}"
    keys = machine.succeed("cat ~debian/.ssh/authorized_keys")
    assert machine.key.with_suffix(".pub").read_text().split()[1] in keys
    assert machine.succeed("stat -c %a:%U /etc/hubsmith/settings.toml").strip() == "600:root"
    assert machine.succeed("cat /etc/hubsmith/settings.toml") == text
    items = json.loads(machine.execute("hubsmith status --json").stdout)["items"]
    states = {item["name"]: item["state"] for item in items}
    assert states["settings"] == "ready"
    assert not {"failed", "refused"} & set(states.values()), states
    assert set(machine.succeed("id -nG alice").split()) == {"alice", "hubusers", "hubadmins"}
    return [str(error) for error in result["errors"]]


@pytest.mark.slow
@pytest.mark.parametrize("source", ["config-drive", "ec2", "nocloud"])
def test_a_machine_is_what_its_metadata_says(make_machine: Callable[..., Machine], source: Source) -> None:
    text = settings(("alice",))
    machine = launch(make_machine, source, user_data(text))
    assert assert_is_what_it_was_told(machine, source, text) == []
    if source == "ec2":
        asked = " ".join(metadata.requests(machine.folder))
        assert "PUT /latest/api/token 200" in asked
        assert "user-data 200" in asked
    machine.wait_for_boot(120)


@pytest.mark.slow
@pytest.mark.allow("cloud-final|cloud-init-main|Cloud-init: Final Stage", "a script of the portal's cannot work here")
def test_the_user_data_of_a_portal_goes_along_with_ours(make_machine: Callable[..., Machine]) -> None:
    text = settings(("alice",))
    machine = launch(make_machine, "openstack", multipart(user_data(text)))
    errors = assert_is_what_it_was_told(machine, "openstack", text)
    assert any("/user_data 200" in line for line in metadata.requests(machine.folder))
    # Each part was given its turn, and what could not work is told as such and keeps nothing else from working.
    assert set(machine.succeed("cat /run/portal").split()) == {"boothook", "bootcmd", "passphrase", "script", "runcmd"}
    assert metadata.password(machine.folder) == "three-random-words"
    assert "sudo" in machine.succeed("id -nG exouser").split()
    assert len(errors) == 1
    assert "scripts_user" in errors[0]
    failed = {line.split()[0] for line in machine.execute("systemctl --failed --no-legend --plain").stdout.splitlines()}
    assert failed == {"cloud-final.service", "cloud-init-main.service"}
