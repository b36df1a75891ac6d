"""What a hub does when people work, leave, do harm, and when the machine fails under them."""

from __future__ import annotations

import re

import pytest
from hub_client import HubClient, NotLetIn, NotServed
from hub_fixtures import HUB, KERNEL, SPAWN, Hub
from people import PASSWORD, WRONG, settings

from hubsmith.vm.waits import scaled, wait_until

pytestmark = [pytest.mark.vm, pytest.mark.modules("jupyterhub")]

#: A shell for a kernel: what a line prints, on both outputs.
SH = """
import subprocess
def sh(line):
    done = subprocess.run(line, shell=True, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return (done.stdout + done.stderr).strip()
"""


def test_the_wrong_password_and_unknown_names_are_refused(hub: Hub) -> None:
    for name, password in (("alice", WRONG), ("alice", ""), ("mallory", PASSWORD), ("root", PASSWORD)):
        with pytest.raises(NotLetIn):
            hub.person(name, password)
    assert hub.person("alice").request("GET", "/hub/api/user").json()["name"] == "alice"


def test_the_second_user_gets_nothing_of_the_first(busy_hub: Hub) -> None:
    alice = busy_hub.at_work("alice")
    alice.save("diary.txt", "dear diary")
    icon = alice.request("GET", "/user/alice/kernelspecs/python3/logo-svg.svg")
    assert (icon.status_code, b"<svg" in icon.content) == (200, True), "the launcher's picture of the kernel"
    with alice.start_kernel(scaled(KERNEL)) as kernel:
        assert kernel.execute("5 * 4") == "20"
        socket = kernel.execute("import glob; glob.glob('/run/notebook/jupyter/kernel-*-ipc-1')[0]")
    bob = busy_hub.at_work("bob")
    for path in ("/user/alice/lab", "/user/alice/api/contents/diary.txt", "/hub/api/users/alice"):
        answer = bob.request("GET", path)
        assert answer.status_code in (403, 404), path
        assert "dear diary" not in answer.text
    with bob.start_kernel(scaled(KERNEL)) as kernel:
        kernel.execute(SH)
        tries = {
            "cat /home/alice/diary.txt": "No such file|denied",
            "ls /home/alice": "No such file|denied",
            f"ls {socket.strip(chr(39))}": "No such file",
            "cat /etc/hubsmith/settings.toml": "denied|No such file",
            "cat /var/lib/hubsmith/kept/secrets.json": "denied|No such file",
            "cat /run/hubsmith/jupyterhub.json": "denied",
            "cat /run/hubsmith/tls/key.pem": "denied",
            "cat /var/lib/jupyterhub/jupyterhub.sqlite": "denied|No such file",
            "cat /etc/shadow": "denied",
            "ls /run/configurable-http-proxy": "denied",
            "systemctl stop jupyter-alice-singleuser": "Failed|denied|not been booted",
            "systemd-run --wait true": "Failed|denied|not been booted",
            "sudo -n true": "sudo:|effective user",
            "unshare --user --map-root-user true": "not permitted|denied|No space",
            "touch /usr/x /etc/x /opt/notebook/x": "Read-only|denied",
            "touch ~/shared/x": "Read-only|denied",
        }
        for line, expected in tries.items():
            assert re.search(expected, kernel.execute(f"print(sh({line!r}))")), line
        assert kernel.execute("print(sh('ps -e -o user= | sort -u'))") == "bob"
        metadata = "import urllib.request; urllib.request.urlopen('http://169.254.169.254/', timeout=5)"
        with pytest.raises(RuntimeError, match="Connection refused"):
            kernel.execute(metadata)
        bind = "import socket; s = socket.socket(); s.bind(('127.0.0.1', {}))"
        with pytest.raises(RuntimeError, match="PermissionError"):
            kernel.execute(bind.format(20_777))  # a port of some other user's server
        with pytest.raises(RuntimeError, match="PermissionError"):
            kernel.execute(bind.format(880))  # as good as the hub's own, which is taken
        assert kernel.execute(bind.format(8081) + "; print('free')") == "free"


def test_an_admin_writes_the_shared_folder_and_others_read_it(busy_hub: Hub) -> None:
    alice, bob = busy_hub.at_work("alice"), busy_hub.at_work("bob")
    with alice.start_kernel(scaled(KERNEL)) as kernel:
        kernel.execute("open('shared/hello.txt', 'w').write('hello')")
    with bob.start_kernel(scaled(KERNEL)) as kernel:
        assert kernel.execute("open('shared/hello.txt').read()") == "'hello'"


@pytest.mark.allow("Failed with result 'signal'", "the test kills the hub")
def test_a_killed_hub_and_a_restarted_hub_lose_no_kernel(busy_hub: Hub) -> None:
    alice = busy_hub.at_work("alice")
    kernel = alice.start_kernel(scaled(KERNEL))
    kernel.execute("x = 42")
    busy_hub.kill_main_process("jupyterhub.service")
    assert kernel.execute("x") == "42", "while the hub is down"
    busy_hub.wait()
    assert kernel.execute("x + 1") == "43"
    busy_hub.machine.succeed("systemctl restart jupyterhub.service", timeout=HUB)
    kernel.close()
    assert [k.execute("x") for k in busy_hub.at_work("alice").kernels()] == ["42"]
    assert busy_hub.person("alice").request("GET", "/hub/api/user").json()["servers"][""]["ready"] is True


@pytest.mark.allow("Failed with result 'signal'", "the test kills the proxy")
def test_a_killed_proxy_knows_all_servers_again(busy_hub: Hub) -> None:
    alice = busy_hub.at_work("alice")
    kernel = alice.start_kernel(scaled(KERNEL))
    kernel.execute("x = 42")
    kernel.close()
    busy_hub.kill_main_process("configurable-http-proxy.service")

    def served() -> bool:
        return alice.request("GET", "/user/alice/api/kernels", allow_redirects=False).status_code == 200

    wait_until("the route to alice's server", served, timeout=120, interval=1, seen=busy_hub.machine.seen)
    assert kernel.execute("x") == "42"


@pytest.mark.slow
@pytest.mark.parametrize("orderly", [True, False], ids=["reboot", "power cut"])
def test_homes_and_the_hubs_state_survive(busy_hub: Hub, orderly: bool) -> None:
    alice = busy_hub.at_work("alice")
    with alice.start_kernel(scaled(KERNEL)) as kernel:
        kernel.execute(
            "import os; f = open('work.txt', 'w'); f.write('result'); f.flush(); os.fsync(f.fileno()); x = 1"
        )
        token = alice.request("POST", "/hub/api/users/alice/tokens", json={"note": "kept"}).json()["token"]
        if orderly:
            busy_hub.machine.reboot(600)
        else:
            busy_hub.machine.crash()
            busy_hub.machine.start()
            busy_hub.machine.wait_for_boot(600)
    busy_hub.wait()
    # The cookie of before, and a token of before: the hub's database and its cookie secret are the same.
    alice.base = busy_hub.machine.url
    assert alice.request("GET", "/hub/api/user").json()["name"] == "alice"
    answer = HubClient(busy_hub.machine.url, "alice").http.get(
        f"{busy_hub.machine.url}/hub/api/user", headers={"Authorization": f"token {token}"}, timeout=60
    )
    assert answer.json()["servers"] == {}, "the hub must see that the server has gone with the power"
    assert busy_hub.at_work("alice").read("work.txt") == "result"


@pytest.mark.slow
@pytest.mark.allow(
    r"jupyter-bob-singleuser\.service: Failed with result 'signal'", "all processes of bob are killed at once"
)
def test_who_is_taken_out_of_the_settings_is_out_at_once(hub: Hub) -> None:
    bob, alice = hub.at_work("bob"), hub.person("alice")
    assert alice.request("GET", "/hub/api/users").status_code == 200
    hub.apply(settings(("alice",), hub={"admins": []}))
    hub.wait()
    with pytest.raises(NotLetIn):
        hub.person("bob")
    with pytest.raises(NotServed):
        bob.spawn(scaled(60))
    assert bob.request("GET", "/user/bob/api/contents").status_code >= 400
    assert hub.machine.execute("pgrep -u bob").rc == 1
    assert alice.request("GET", "/hub/api/users").status_code == 403, "who is no admin any more has no such rights"
    hub.apply(settings(("alice", "bob")))
    hub.wait()
    assert hub.at_work("bob").request("GET", "/hub/api/user").json()["name"] == "bob"


@pytest.mark.slow
def test_refused_settings_close_the_hub_and_mended_ones_open_it(hub: Hub) -> None:
    good = hub.machine.succeed("cat /etc/hubsmith/settings.toml")
    hub.machine.succeed("cat > /etc/hubsmith/settings.toml", stdin=good.replace("[hub]", "[hbu]"))
    hub.machine.fail("hubsmith apply", timeout=300)
    for path in ("/", "/hub/login", "/user/alice/lab"):
        page = hub.machine.wait_for_https(path, status=(503,), timeout=60)
        assert "hbu" in page.text, "the page says which key it is"
    assert hub.machine.get("/hubsmith/status").status in (200, 503)
    assert hub.machine.execute("systemctl is-active jupyterhub configurable-http-proxy").rc != 0
    hub.apply(good)
    hub.wait()
    hub.person("alice")


@pytest.mark.slow
def test_a_full_home_is_told_and_keeps_nobody_from_working(busy_hub: Hub) -> None:
    alice = busy_hub.at_work("alice")
    notebook = {
        "type": "notebook",
        "content": {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [
            {"cell_type": "code", "id": "a", "source": "1", "metadata": {}, "execution_count": 1, "outputs": []}]},
    }  # fmt: skip
    alice.api("PUT", "contents/n.ipynb", json=notebook)
    with alice.start_kernel(scaled(KERNEL)) as kernel, pytest.raises(RuntimeError, match=r"No space left|quota"):
        kernel.execute("f = open('fill', 'wb', buffering=0)\nwhile f.write(b'x' * 65536): pass")
    alice.stop()
    busy_hub.wait_for_unit_state("jupyter-alice-singleuser.service", "inactive")
    busy_hub.machine.succeed("rm -rf /home/alice/.ipython /home/alice/.local")  # as if it were the first time
    busy_hub.machine.succeed(
        "head -c 67108864 /dev/zero | runuser -u alice -- tee /home/alice/fill2 > /dev/null; sync; true"
    )
    busy_hub.machine.succeed("/usr/lib/hubsmith/status.d/homes")
    messages = busy_hub.person("alice").spawn(scaled(SPAWN))
    assert any("Your home is full" in message for message in messages), messages
    again = busy_hub.at_work("alice")
    assert again.api("GET", "contents/n.ipynb")["type"] == "notebook"
    with again.start_kernel(scaled(KERNEL)) as kernel:
        assert kernel.execute("2 + 2") == "4"
    with busy_hub.at_work("bob").start_kernel(scaled(KERNEL)) as kernel:
        kernel.execute("open('mine', 'wb').write(bytes(1000000))")


@pytest.mark.slow
@pytest.mark.allow("[Oo]ut of memory|oom", "the test's kernel takes more than it may")
def test_too_much_memory_ends_the_kernel_and_nothing_else(hub: Hub) -> None:
    hub.apply(settings(("alice", "bob"), spawner={"memory": "320M", "start_timeout": "6m"}))
    hub.wait()
    alice = hub.at_work("alice")
    kernel = alice.start_kernel(scaled(KERNEL))
    server = hub.machine.succeed("systemctl show -P MainPID jupyter-alice-singleuser")
    kernel.send("x = bytearray(600 * 2**20); x[::4096] = b'x' * len(x[::4096])")
    hub.machine.wait_until(
        "the kernel to be killed", lambda: "oom-kill" in hub.machine.journal(lines=200).lower(), 120, interval=2
    )
    assert hub.machine.succeed("systemctl show -P MainPID jupyter-alice-singleuser") == server
    states = hub.machine.execute("systemctl is-active jupyterhub nginx configurable-http-proxy").stdout
    assert states.split() == ["active"] * 3
    with alice.start_kernel(scaled(KERNEL)) as other:
        assert other.execute("5 * 4") == "20"


@pytest.mark.slow
def test_a_machine_without_memory_left_says_so(busy_hub: Hub) -> None:
    busy_hub.at_work("alice")
    busy_hub.machine.succeed("systemctl set-property --runtime hubsmith-users.slice MemoryMax=300M MemoryHigh=290M")
    with pytest.raises(NotServed, match="not enough memory left"):
        busy_hub.at_work("bob")
    assert busy_hub.person("alice").request("GET", "/user/alice/api").status_code == 200


@pytest.mark.slow
def test_an_idle_server_is_stopped(hub: Hub) -> None:
    hub.apply(settings(("alice", "bob"), idle={"cull_after": "15s", "every": "10s"}, spawner={"start_timeout": "6m"}))
    hub.wait()
    hub.at_work("alice")
    hub.wait_for_unit_state("jupyter-alice-singleuser.service", "inactive", 240)
    assert hub.person("alice").request("GET", "/hub/api/user").json()["servers"] == {}


@pytest.mark.slow
def test_no_secret_of_a_session_is_in_the_journal_or_a_command_line(busy_hub: Hub) -> None:
    alice = busy_hub.at_work("alice")
    with alice.start_kernel(scaled(KERNEL)) as kernel:
        token = kernel.execute("import os; os.environ['JUPYTERHUB_API_TOKEN']").strip("'")
        secrets = [PASSWORD, token, *(c.value for c in alice.http.cookies if c.name != "_xsrf" and len(c.value) > 16)]
        busy_hub.machine.succeed("journalctl --sync; journalctl --namespace=notebooks --sync")
        seen = busy_hub.machine.succeed("journalctl --namespace='*' -b --no-pager -o verbose", timeout=180)
        seen += busy_hub.machine.succeed("ps -e -ww -o args=")
    assert len(secrets) >= 4
    assert not [number for number, secret in enumerate(secrets) if secret in seen]
