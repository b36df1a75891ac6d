"""An admin of the hub who wants more: the machine, or to be someone else."""

from __future__ import annotations

import pytest
from scene import ADMIN, STUDENT, VICTIM, Scene, attack, configure_hub, edit

pytestmark = [pytest.mark.vm, pytest.mark.modules("jupyterhub", "spawner-local")]

OPERATOR = "debian"
SPAWNER = "/usr/lib/hubsmith/python/hubsmith_spawner_local/spawner.py"


def more(scopes: str, program: str = "") -> str:
    """Let admins have more scopes."""
    return configure_hub(f's/"admin-ui", /"admin-ui", {scopes}, /; {program}')


ANY_NAME = more('"admin:users"', "/username_pattern = /d")


@attack(weaken=ANY_NAME)
def test_adding_the_operator_as_a_user(scene: Scene) -> bool:
    return scene.admin.request("POST", f"/hub/api/users/{OPERATOR}").status_code == 201


@attack(weaken=ANY_NAME)
def test_renaming_a_user_to_the_operator(scene: Scene) -> bool:
    return scene.admin.request("PATCH", f"/hub/api/users/{VICTIM}", json={"name": OPERATOR}).status_code == 200


@attack(
    weaken=f"{edit(SPAWNER, '/if not FIRST_UID/,+1d')} && "
    + more('"admin:users"', "/username_pattern = /d; /pre_spawn_hook = /d")
)
def test_a_server_that_runs_as_the_operator(scene: Scene) -> bool:
    scene.admin.request("POST", f"/hub/api/users/{OPERATOR}")
    scene.admin.request("POST", f"/hub/api/users/{OPERATOR}/server")
    return scene.machine.execute(f"systemctl is-active jupyter-{OPERATOR}-singleuser.service").rc == 0


@attack(weaken=more('"tokens"'))
def test_a_token_of_someone_else(scene: Scene) -> bool:
    return scene.admin.request("POST", f"/hub/api/users/{STUDENT}/tokens", json={}).status_code == 201


@attack(weaken=more('"shutdown"'))
def test_stopping_the_hub_and_its_proxy(scene: Scene) -> bool:
    before = scene.hub_pid()
    scene.admin.request("POST", "/hub/api/shutdown", json={"proxy": True, "servers": True})
    return scene.machine.execute(f"timeout 20 sh -c 'while kill -0 {before}; do sleep 0.5; done'").rc == 0


@attack(weaken=more('"proxy"'))
def test_where_the_proxy_leads(scene: Scene) -> bool:
    return scene.admin.request("GET", "/hub/api/proxy").status_code == 200


@attack(weaken=more('"admin:groups"'))
def test_groups_of_users(scene: Scene) -> bool:
    return scene.admin.request("POST", "/hub/api/groups/mine").status_code == 201


def test_an_admin_sees_and_stops_and_opens_servers(scene: Scene) -> None:
    """What an admin is for."""
    people = {user["name"]: user for user in scene.admin.request("GET", "/hub/api/users").json()}
    assert people.keys() == {ADMIN, STUDENT, VICTIM}
    assert people[STUDENT]["servers"][""]["ready"] is True
    assert scene.admin.request("GET", "/hub/admin").status_code == 200
    token = scene.admin.request("POST", f"/hub/api/users/{ADMIN}/tokens", json={}).json()["token"]
    login = {"Authorization": f"token {token}"}
    assert len(scene.stranger.request("GET", f"/user/{STUDENT}/api/kernels", headers=login).json()) == 1
    assert scene.admin.request("DELETE", f"/hub/api/users/{STUDENT}/server").status_code in (202, 204)
