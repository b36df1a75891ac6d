"""A student who may come by SSH, outside of the confinement of notebooks."""

from __future__ import annotations

import pytest
from people import PASSWORD
from scene import QUOTA, STUDENT, VICTIM, Scene, attack
from test_student import MOVE, NO_FIREWALL, SERVE_USER_DATA, USER_DATA, opened

pytestmark = [pytest.mark.vm, pytest.mark.modules("jupyterhub", "spawner-local")]


def python(code: str) -> str:
    """A command that runs Python code."""
    return f"python3 - <<'END'\n{code}\nEND"


@attack(weaken=f"xfs_quota -x -c 'limit -u bhard=0 {STUDENT}' /home")
def test_more_than_the_quota_in_another_project(scene: Scene) -> bool:
    assert "moved" in scene.ssh(python(MOVE.format(project=4242))).stdout
    size = QUOTA + 16
    return scene.ssh(f"head -c {size}M /dev/zero > ~/moved; stat -c %s ~/moved").stdout.strip() == str(size << 20)


@attack(weaken=f'xfs_quota -x -c "limit -p bhard={QUOTA}m $(id -u {VICTIM})" /home')
def test_filling_the_quota_of_another_user(scene: Scene) -> bool:
    victim = scene.root(f"id -u {VICTIM}").strip()
    assert "moved" in scene.ssh(python(MOVE.format(project=victim))).stdout
    scene.ssh(f"head -c {QUOTA - 4}M /dev/zero > ~/moved")
    return scene.as_user(VICTIM, "head -c 16M /dev/zero > ~/work.dat").rc != 0


@attack(weaken="rm /etc/ssh/sshd_config.d/05-hubsmith-accounts.conf && systemctl restart ssh")
def test_a_key_that_a_notebook_put_into_the_home(scene: Scene) -> bool:
    folder = scene.machine.folder
    other = folder / "other"
    scene.keygen(other)
    public = other.with_suffix(".pub").read_text().strip()
    scene.notebook.sh(f"umask 077; mkdir -p ~/.ssh; echo '{public}' > ~/.ssh/authorized_keys")
    return scene.ssh_with(other, "id -un") == STUDENT


@attack(weaken=NO_FIREWALL)
def test_the_user_data_of_the_machine(scene: Scene) -> bool:
    scene.root(SERVE_USER_DATA)
    done = scene.ssh(f"curl --silent --max-time 20 {USER_DATA}")
    return "settings.toml" in done.stdout


@attack(
    weaken="mount --bind /dev/null /usr/lib/systemd/system/user-.slice.d/50-hubsmith-notebooks.conf "
    "&& systemctl daemon-reload"
)
def test_the_port_of_the_server_of_another_user(scene: Scene) -> bool:
    code = "import socket; s = socket.socket(); s.bind(('127.0.0.1', 20777)); print('bound')"
    return "bound" in scene.ssh(python(code)).stdout


@attack(weaken=f"echo '{STUDENT} ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/weak")
def test_sudo(scene: Scene) -> bool:
    return scene.ssh("sudo -n id -u").stdout.strip() == "0"


@attack(weaken="mount -o remount,hidepid=0 /proc")
def test_the_processes_of_others(scene: Scene) -> bool:
    return "jupyterhub" in scene.ssh("ps -e -o args=").stdout


@attack(weaken=opened(f"/home/{VICTIM}/diary.txt"))
def test_a_file_of_another_user(scene: Scene) -> bool:
    return "dear diary" in scene.ssh(f"cat /home/{VICTIM}/diary.txt").stdout


@attack(weaken="chmod 1777 /home/shared && setfacl --remove-all /home/shared && chmod 1777 /home/shared")
def test_writing_to_the_shared_folder(scene: Scene) -> bool:
    return scene.ssh("touch ~/shared/x").rc == 0


@attack(weaken="chmod 644 /run/hubsmith/apply.lock")
def test_keeping_the_operator_from_applying_settings(scene: Scene) -> bool:
    scene.ssh("nohup flock /run/hubsmith/apply.lock sleep 300 > /dev/null 2>&1 & sleep 1")
    return scene.machine.execute("timeout 60 hubsmith apply", timeout=120).rc == 124


@attack(weaken="sysctl -w kernel.io_uring_disabled=0")
def test_io_uring(scene: Scene) -> bool:
    code = "import ctypes; print('ring', ctypes.CDLL(None).syscall(425, 8, ctypes.create_string_buffer(120)))"
    return "ring -1" not in scene.ssh(python(code)).stdout


SETUID_SU = (
    "cp /usr/bin/su /run/su && chmod 4755 /run/su && mount --bind /run/su /usr/bin/su "
    "&& mount -o remount,bind,suid /usr/bin/su"
)


@attack(weaken=SETUID_SU)
def test_trying_the_password_of_another_user(scene: Scene) -> bool:
    """`su` has no limits, and no log that anyone reads."""
    return scene.ssh(f"echo '{PASSWORD}' | su {VICTIM} -c 'id -un'").stdout.strip() == VICTIM


def test_operators_become_root(scene: Scene) -> None:
    assert scene.machine.succeed("sudo -n id -u", root=False).strip() == "0"
