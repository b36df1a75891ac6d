"""Someone on the internet without an account."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time

import pytest
import requests
from hub_client import NotLetIn
from people import PASSWORD, WRONG
from scene import OPEN_PORT, STUDENT, Scene, attack, configure_hub, edit

from hubsmith.run import run

pytestmark = [pytest.mark.vm, pytest.mark.modules("jupyterhub", "spawner-local")]

MIB = 1024**2
HUB_PROXY = "/usr/share/hubsmith/nginx/hub-proxy.conf"
TLS = "/usr/share/hubsmith/nginx/tls.conf"
PORT_80 = "/usr/share/hubsmith/nginx/port-80.conf"
THROTTLE = "/usr/lib/hubsmith/python/hubsmith_jupyterhub/throttle.py"
MANY_ATTEMPTS = "s/^(ATTEMPTS, WINDOW = ).*/\\11000, 300/"
ALL_ADDRESSES_ARE_ONE = 's/^        return str.*/        return "everywhere"/'
#: After a reload, workers with the old configuration may take another connection.
RESTART_NGINX = "systemctl restart nginx.service"
RESTART_HUB = "systemctl restart jupyterhub.service"
SITE = "/run/hubsmith/nginx/site.conf"
LARGE_BODIES = (
    f"{edit(HUB_PROXY, 's/max_body_size 256k/max_body_size 1g/')} && {RESTART_NGINX} && "
    "systemctl set-property --runtime jupyterhub.service MemoryHigh=infinity MemoryMax=infinity && "
    + configure_hub("/^HTTPServer.configure/d")
)
#: As JSON it is an array of millions of arrays: 25 times as large when the hub has parsed it.
ARRAYS = 8 << 20
BODY = b"[" + b"[]," * ARRAYS + b"[]]"


def hurt(scene: Scene, before: str) -> bool:
    """Whether the hub took more memory than it ever needs, or was killed for it."""
    peak = int(scene.root("systemctl show --property=MemoryPeak --value jupyterhub.service"))
    return peak > 300 * MIB or scene.hub_pid() != before


def login(scene: Scene, password: str) -> bool:
    """Whether bob's name and a password are accepted."""
    try:
        scene.hub.person(STUDENT, password)
    except NotLetIn:
        return False
    return True


@attack(weaken=LARGE_BODIES)
def test_a_body_that_fills_the_hubs_memory(scene: Scene) -> bool:
    before = scene.hub_pid()
    with contextlib.suppress(requests.ConnectionError):
        scene.stranger.request("POST", "/hub/api/users/x/tokens", data=BODY, timeout=300)
    return hurt(scene, before)


@attack(weaken=LARGE_BODIES)
def test_a_large_body_whose_size_no_header_tells(scene: Scene) -> bool:
    before = scene.hub_pid()
    chunks = (BODY[start : start + MIB] for start in range(0, len(BODY), MIB))
    with contextlib.suppress(requests.ConnectionError):
        scene.stranger.request("POST", "/hub/api/users/x/tokens", data=chunks, timeout=300)
    return hurt(scene, before)


@attack(weaken=f"sed -i '/limit_req/d' {SITE} && {RESTART_NGINX} && {edit(THROTTLE, MANY_ATTEMPTS)} && {RESTART_HUB}")
def test_guessing_passwords_quickly(scene: Scene) -> bool:
    guess = {"username": STUDENT, "password": WRONG}
    codes = {scene.stranger.request("POST", "/hub/login", data=guess).status_code for _ in range(130)}
    assert 403 in codes, codes
    return 429 not in codes


@attack(weaken=f"{edit(HUB_PROXY, '$a proxy_request_buffering off;')} && {RESTART_NGINX}")
def test_bodies_that_never_end(scene: Scene) -> bool:
    """Each would hold one of the hub's connections."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            plain = socket.create_connection(("127.0.0.1", scene.machine.port(443)), 60)
            line = stack.enter_context(context.wrap_socket(plain))
            line.sendall(b"POST /hub/login HTTP/1.1\r\nHost: hub\r\nContent-Length: 1000\r\n\r\nx")
        time.sleep(5)
        held = scene.root("ss --no-header --tcp state established '( sport = :881 )' | wc -l")
        return int(held) >= 20


@attack(weaken="nft flush ruleset")
def test_a_port_that_a_student_has_opened(scene: Scene) -> bool:
    scene.notebook.python(
        "import subprocess, sys; "
        f"server = subprocess.Popen([sys.executable, '-m', 'http.server', '{OPEN_PORT}', '--bind', '0.0.0.0'])"
    )
    scene.root(f"timeout 60 sh -c 'until ss --no-header -ltn sport = :{OPEN_PORT} | grep -q .; do sleep 0.2; done'")
    with contextlib.suppress(requests.RequestException):
        return requests.get(f"http://127.0.0.1:{scene.machine.port(OPEN_PORT)}/", timeout=10).status_code == 200
    return False


@attack(
    weaken="printf 'PasswordAuthentication yes\nAuthenticationMethods any\n' > /etc/ssh/sshd_config.d/00-weak.conf "
    "&& systemctl restart ssh"
)
def test_a_password_over_ssh(scene: Scene) -> bool:
    askpass = scene.machine.folder / "askpass"
    askpass.write_text(f"#!/bin/sh\necho '{PASSWORD}'\n")
    askpass.chmod(0o700)
    options = [
        "PreferredAuthentications=password", "PubkeyAuthentication=no", "StrictHostKeyChecking=no",
        "UserKnownHostsFile=/dev/null", "NumberOfPasswordPrompts=1",
    ]  # fmt: skip
    words = [word for option in options for word in ("-o", option)]
    command = ["ssh", "-F", "/dev/null", *words, "-p", str(scene.machine.port(22)), f"{STUDENT}@127.0.0.1", "id -un"]
    done = run(command, env={"SSH_ASKPASS": str(askpass), "SSH_ASKPASS_REQUIRE": "force"}, check=False, timeout=120)
    return done.stdout.strip() == STUDENT


@attack(weaken=f"{edit(TLS, 's#pages/ [{]#pages {#; /internal;/d')} && {RESTART_NGINX}")
def test_a_path_that_leaves_the_folder_of_pages(scene: Scene) -> bool:
    paths = (
        "/hubsmith/pages../tls.conf",
        "/hubsmith/pages/../tls.conf",
        "/hubsmith/pages/..%2ftls.conf",
        "/hubsmith/pages/%2e%2e/tls.conf",
        "/hubsmith/status/../../nginx/site.conf",
    )
    port, found = scene.machine.port(443), []
    for path in paths:  # as it is: a library would tidy it up
        command = [
            "curl",
            "--silent",
            "--insecure",
            "--path-as-is",
            "--max-time",
            "60",
            f"https://127.0.0.1:{port}{path}",
        ]
        found.append(run(command, timeout=120).stdout)
    return any("listen 443" in text for text in found)


@attack(weaken=configure_hub("$a c.JupyterHub.authenticate_prometheus = False"))
def test_the_hubs_figures(scene: Scene) -> bool:
    return "jupyterhub_" in scene.stranger.request("GET", "/hub/metrics").text


@attack(weaken=f"{edit(PORT_80, 's#return 301.*#root /; autoindex on;#')} && {RESTART_NGINX}")
def test_anything_without_tls(scene: Scene) -> bool:
    answer = requests.get(f"http://127.0.0.1:{scene.machine.port(80)}/hub/../etc/", allow_redirects=False, timeout=60)
    return answer.status_code != 301


@attack(weaken=f"{edit(THROTTLE, MANY_ATTEMPTS)} && {RESTART_HUB}")
def test_guessing_passwords_slowly(scene: Scene) -> bool:
    """Slow enough for NGINX, but from one address."""
    for _ in range(12):
        login(scene, WRONG)
    return login(scene, PASSWORD)


@attack(weaken=f"{edit(THROTTLE, ALL_ADDRESSES_ARE_ONE)} && {RESTART_HUB}")
def test_locking_someone_out(scene: Scene) -> bool:
    """By wrong passwords in the name of someone who comes from another address."""
    for _ in range(12):
        login(scene, WRONG)
    form = "curl --silent --insecure --cookie-jar /run/c --cookie /run/c https://localhost/hub/login"
    scene.root(f"{form} --output /dev/null")
    token = "$(awk '/_xsrf/ {print $7}' /run/c)"
    code = f"{form} --output /dev/null --write-out '%{{http_code}}' --data username={STUDENT} --data-urlencode "
    code += f"'password={PASSWORD}' --data _xsrf={token}"
    return scene.root(code) != "302"
