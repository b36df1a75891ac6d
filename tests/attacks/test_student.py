"""A student at work in a notebook, who wants what belongs to others, the machine, or more than a share of it."""

from __future__ import annotations

import pytest
from people import PASSWORD
from scene import QUOTA, VICTIM, Scene, attack, configure_hub, edit
from test_stranger import ARRAYS, LARGE_BODIES, hurt

pytestmark = [pytest.mark.vm, pytest.mark.modules("jupyterhub", "spawner-local")]

PASSWORDS = "/usr/lib/hubsmith/python/hubsmith_jupyterhub/passwords.py"
HIDDEN = "InaccessiblePaths"
NO_FIREWALL = "nft flush ruleset"
#: A metadata service, as a cloud would have it.
USER_DATA = "http://169.254.169.254/openstack/latest/user_data"
SERVE_USER_DATA = f"""
ip netns add cloud
ip link add cloud type veth peer name eth0 netns cloud
ip address add 169.254.169.253/30 dev cloud
ip link set cloud up
ip -netns cloud address add 169.254.169.254/30 dev eth0
ip -netns cloud link set eth0 up
mkdir --parents /run/metadata/openstack/latest
echo 'path: /etc/hubsmith/settings.toml' > /run/metadata/openstack/latest/user_data
systemd-run --quiet --property=NetworkNamespacePath=/run/netns/cloud --working-directory=/run/metadata \\
    python3 -m http.server 80
timeout 60 sh -c 'until curl --silent {USER_DATA} | grep --quiet settings.toml; do sleep 0.2; done'
"""
#: Starts a system call by its number (x86-64); prints 0 or what it returns when it was let through, else -1.
CALL = "import ctypes; print('returned', ctypes.CDLL(None).syscall({}))"
#: Writes a line to the journal.
LOG = """
import socket
try:
    socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"MESSAGE=chatter\\n", "/run/systemd/journal/socket")
except OSError as error:
    print(error)
"""
OPEN_JOURNAL = "setfacl --remove-all /run/systemd/journal/socket"


def logged(scene: Scene) -> bool:
    """Whether the line of :data:`LOG` is in the journal of the machine."""
    return (
        scene.root("journalctl --sync; journalctl --boot --no-pager --output=cat MESSAGE=chatter").strip() == "chatter"
    )


def opened(path: str) -> str:
    """A command that lets everybody read a file."""
    return f"chmod a+r {path} && p=$(dirname {path}) && while [ $p != / ]; do chmod a+rx $p; p=$(dirname $p); done"


# What belongs to others


@attack(weaken=opened(f"/home/{VICTIM}/diary.txt"), without=["ProtectHome", "BindPaths"])
def test_a_file_of_another_user(scene: Scene) -> bool:
    return "dear diary" in scene.notebook.sh(f"cat /home/{VICTIM}/diary.txt")


@attack(weaken=opened("/etc/hubsmith/settings.toml"), without=[HIDDEN])
def test_the_settings(scene: Scene) -> bool:
    return "password_hash" in scene.notebook.sh("cat /etc/hubsmith/settings.toml")


@attack(weaken=opened("/var/lib/hubsmith/kept/secrets.json"), without=[HIDDEN])
def test_the_secrets_of_the_machine(scene: Scene) -> bool:
    return "cookie_secret" in scene.notebook.sh("cat /var/lib/hubsmith/kept/secrets.json")


@attack(weaken=opened("/run/hubsmith/jupyterhub.json"))
def test_the_tokens_of_the_hub(scene: Scene) -> bool:
    return "cookie_secret" in scene.notebook.sh("cat /run/hubsmith/jupyterhub.json")


@attack(weaken=opened("/run/hubsmith/tls/key.pem"))
def test_the_key_of_the_certificate(scene: Scene) -> bool:
    return "PRIVATE KEY" in scene.notebook.sh("cat /run/hubsmith/tls/key.pem")


@attack(weaken=opened("/var/lib/jupyterhub/jupyterhub.sqlite"), without=[HIDDEN])
def test_the_database_of_the_hub(scene: Scene) -> bool:
    return "SQLite format" in scene.notebook.sh("head -c 13 /var/lib/jupyterhub/jupyterhub.sqlite")


@attack(weaken=opened("/etc/shadow"))
def test_the_password_hashes(scene: Scene) -> bool:
    return "$2b$" in scene.notebook.sh("cat /etc/shadow")


@attack(weaken=NO_FIREWALL, without=["IPAddressDeny"])
def test_the_user_data_of_the_machine(scene: Scene) -> bool:
    scene.root(SERVE_USER_DATA)
    return "settings.toml" in scene.notebook.sh(f"curl --silent --max-time 20 {USER_DATA}")


@attack(weaken="mount -o remount,hidepid=0 /proc", without=["ProtectProc"])
def test_the_processes_of_others(scene: Scene) -> bool:
    return "jupyterhub" in scene.notebook.sh("ps -e -o args=")


@attack(without=["ProtectControlGroupsEx"])
def test_the_names_of_others_who_are_at_work(scene: Scene) -> bool:
    return "jupyterhub.service" in scene.notebook.sh("ls /sys/fs/cgroup/system.slice")


# To be someone else

CONTROL = "/run/configurable-http-proxy/api.sock"


@attack(weaken=f"chmod a+rx /run/configurable-http-proxy && chmod a+rw {CONTROL}", without=[HIDDEN])
def test_the_routes_of_the_proxy(scene: Scene) -> bool:
    """With them one could lead others to a server of one's own."""
    code = f"import socket; s = socket.socket(socket.AF_UNIX); s.connect('{CONTROL}'); print('connected')"
    return "connected" in scene.notebook.python(code)


@attack(without=["SocketBindDeny"])
def test_the_port_of_the_server_of_another_user(scene: Scene) -> bool:
    code = "import socket; s = socket.socket(); s.bind(('127.0.0.1', 20777)); print('bound')"
    return "bound" in scene.notebook.python(code)


@attack(weaken="sysctl -w net.ipv4.ip_unprivileged_port_start=0")
def test_a_port_like_that_of_the_hub(scene: Scene) -> bool:
    """While the hub restarts, its own port is free."""
    code = "import socket; s = socket.socket(); s.bind(('127.0.0.1', 880)); print('bound')"
    return "bound" in scene.notebook.python(code)


@attack(weaken=configure_hub("$a c.JupyterHub.extra_user_scopes = ['list:users']"))
def test_the_list_of_users(scene: Scene) -> bool:
    return scene.student.request("GET", "/hub/api/users").status_code == 200


@attack(weaken=configure_hub("$a c.JupyterHub.extra_user_scopes = ['servers']"))
def test_starting_the_server_of_another_user(scene: Scene) -> bool:
    return scene.student.request("POST", f"/hub/api/users/{VICTIM}/server").status_code in (201, 202)


@attack(weaken=configure_hub("$a c.JupyterHub.extra_user_scopes = ['tokens']"))
def test_a_token_of_another_user(scene: Scene) -> bool:
    return scene.student.request("POST", f"/hub/api/users/{VICTIM}/tokens", json={}).status_code == 201


@attack(weaken=f"{edit(PASSWORDS, 's/if not isinstance.*/if False:/')} && systemctl restart jupyterhub.service")
def test_guessing_passwords_past_nginx(scene: Scene) -> bool:
    """The API of the hub takes passwords, too."""
    ask = "urllib.request.Request('http://127.0.0.1:881/hub/api/users/{0}/tokens', json.dumps({1}).encode())"
    body = f"{{'auth': {{'username': {VICTIM!r}, 'password': {PASSWORD!r}}}}}"
    code = f"import json, urllib.request; print(urllib.request.urlopen({ask.format(VICTIM, body)}).status)"
    return "201" in scene.notebook.python(code)


# The machine


@attack(
    weaken="sysctl -w kernel.unprivileged_userns_clone=1",
    without=["RestrictNamespaces", "ProtectKernelTunables", "ProtectKernelLogs", "ProtectProc"],
)
def test_root_in_a_namespace_of_ones_own(scene: Scene) -> bool:
    """From there most of the kernel's code can be reached."""
    return scene.notebook.sh("unshare --user --map-root-user id -u") == "0"


@attack(weaken="sysctl -w kernel.io_uring_disabled=0")
def test_io_uring(scene: Scene) -> bool:
    code = "import ctypes; print('ring', ctypes.CDLL(None).syscall(425, 8, ctypes.create_string_buffer(120)))"
    return "ring -1" not in scene.notebook.python(code)


@attack(weaken="sysctl -w vm.unprivileged_userfaultfd=1")
def test_userfaultfd(scene: Scene) -> bool:
    return "returned -1" not in scene.notebook.python(CALL.format("323, 0"))


@attack(without=["RestrictAddressFamilies"])
def test_a_rare_kind_of_socket(scene: Scene) -> bool:
    """AF_ALG; the kernel would load modules for it."""
    return "made" in scene.notebook.python("import socket; socket.socket(38, socket.SOCK_SEQPACKET); print('made')")


@attack(weaken="sysctl -w kernel.dmesg_restrict=0", without=["ProtectKernelLogs"])
def test_the_messages_of_the_kernel(scene: Scene) -> bool:
    return "Linux version" in scene.notebook.sh("dmesg")


@attack(without=["PrivateDevices"])
def test_the_disks(scene: Scene) -> bool:
    return scene.notebook.sh("ls /dev/vda") == "/dev/vda"


@attack(without=["RestrictSUIDSGID"])
def test_a_program_with_the_rights_of_its_owner(scene: Scene) -> bool:
    return scene.notebook.sh("cp /bin/true ~/mine; chmod 4755 ~/mine; stat -c %a ~/mine") == "4755"


# More than a share

MOVE = """
import fcntl, os, struct
file = os.open(os.path.expanduser("~/moved"), os.O_RDWR | os.O_CREAT)
fields = list(struct.unpack("=5I8s", fcntl.ioctl(file, 0x801C581F, bytes(28))))
fields[3] = {project}
fcntl.ioctl(file, 0x401C5820, struct.pack("=5I8s", *fields))
print("moved")
"""


@attack(without=["PrivateUsers"])
def test_moving_a_file_to_another_quota(scene: Scene) -> bool:
    return "moved" in scene.notebook.python(MOVE.format(project=4242))


@attack(weaken="xfs_quota -x -c 'limit -u bhard=0 bob' /home")
def test_more_than_the_quota(scene: Scene) -> bool:
    size = QUOTA + 16
    return str(size << 20) in scene.notebook.sh(f"head -c {size}M /dev/zero > ~/large; stat -c %s ~/large")


@attack(without=["TemporaryFileSystem", "ProtectSystem"])
def test_filling_the_disk_of_the_machine(scene: Scene) -> bool:
    scene.notebook.sh("echo x > /var/tmp/mine")
    return scene.machine.execute("test -e /var/tmp/mine").rc == 0


@attack(without=["TasksMax"])
def test_more_processes_than_the_machine_can_carry(scene: Scene) -> bool:
    code = (
        "import subprocess\n"
        "started = []\n"
        "try:\n"
        "    while len(started) < 1100: started.append(subprocess.Popen(['sleep', '60']))\n"
        "except OSError:\n"
        "    pass\n"
        "print('started', len(started))\n"
    )
    return "started 1100" in scene.notebook.python(code)


@attack(weaken=LARGE_BODIES)
def test_a_large_body_for_the_hub_past_nginx(scene: Scene) -> bool:
    before = scene.hub_pid()
    scene.notebook.python(
        "import http.client\n"
        "hub = http.client.HTTPConnection('127.0.0.1', 881, timeout=100)\n"
        f"hub.request('POST', '/hub/api/users/x/tokens', body=b'[' + b'[],' * {ARRAYS} + b'[]]')\n"
        "print(hub.getresponse().status)\n"
    )
    return hurt(scene, before)


@attack(weaken=NO_FIREWALL)
def test_all_connections_of_the_hub(scene: Scene) -> bool:
    scene.notebook.python(
        "import socket\n"
        "held = []\n"
        "for _ in range(200):\n"
        "    line = socket.socket(); line.settimeout(2)\n"
        "    try:\n"
        "        line.connect(('127.0.0.1', 881)); held.append(line)\n"
        "    except OSError:\n"
        "        pass\n"
        "print(len(held))\n"
    )
    held = scene.root("ss --no-header --tcp state established '( sport = :881 )' | wc -l")
    return int(held) >= 150


#: Tokens of bob's, as if he had made them one by one, but for one below the limit.
MANY_TOKENS = """
import sqlite3, sys
sys.path.insert(0, "/usr/lib/hubsmith/python")
from hubsmith_jupyterhub.limits import ROWS
database = sqlite3.connect("/var/lib/jupyterhub/jupyterhub.sqlite")
(bob,) = database.execute("SELECT id FROM users WHERE name = 'bob'").fetchone()
(there,) = database.execute("SELECT count(*) FROM api_tokens WHERE user_id = ?", (bob,)).fetchone()
rows = [(bob, f"{number:040}", "x", "jupyterhub", "[]") for number in range(ROWS - there - 1)]
query = "INSERT INTO api_tokens (user_id, hashed, prefix, client_id, scopes) VALUES (?, ?, ?, ?, ?)"
database.executemany(query, rows)
database.commit()
"""
NO_LIMIT_OF_ROWS = configure_hub("s/^limit_rows.*//")


def new_token(scene: Scene, note: str = "") -> int:
    return scene.student.request("POST", "/hub/api/users/bob/tokens", json={"note": note}).status_code


@attack(weaken=NO_LIMIT_OF_ROWS)
def test_filling_the_database_of_the_hub_with_tokens(scene: Scene) -> bool:
    scene.machine.succeed("/opt/jupyterhub/bin/python -", stdin=MANY_TOKENS, timeout=120)
    assert new_token(scene) == 201, "the last one that is allowed"
    return new_token(scene) == 201


@attack(weaken=NO_LIMIT_OF_ROWS)
def test_filling_the_database_of_the_hub_with_a_note(scene: Scene) -> bool:
    assert new_token(scene, "x" * 250) == 201
    if new_token(scene, "x" * 200_000) == 201:
        return True
    assert new_token(scene) == 201, "the hub goes on after the refusal"
    return False


@attack(weaken=OPEN_JOURNAL, without=["LogNamespace", HIDDEN])
def test_a_line_in_the_journal_of_the_machine(scene: Scene) -> bool:
    """Enough of them push out all others."""
    scene.notebook.python(LOG)
    return logged(scene)
