"""What must hold between the settings' fields.

A rule names the top-level tables that it reads (it is judged when each of them is well-formed by itself) and yields
``(key, what is wrong)``. The sentences never repeat a value, see :mod:`hubsmith.settings.checks`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_network
from typing import Any

from hubsmith.settings import checks
from hubsmith.settings.schema import Cluster, Homes, Hub, Spawner, Tls, User

Finding = tuple[str, str]
RULES: list[tuple[tuple[str, ...], Callable[..., Iterator[Finding]]]] = []

#: Top-level names that no public authority certifies (RFC 2606, RFC 6761, RFC 6762, RFC 8375, and ICANN's `internal`).
PRIVATE_TOP_LEVELS = frozenset({"test", "example", "invalid", "localhost", "local", "internal", "arpa", "onion", "lan"})

#: Where the container engine takes its networks from (`modules/docker`, `modules/swarm-manager`).
CONTAINERS = ("10.128.0.0/10", "172.20.0.0/14")


def rule(*tables: str) -> Callable[[Callable[..., Iterator[Finding]]], Callable[..., Iterator[Finding]]]:
    """Register a rule that reads ``tables``; it is called with their values in that order."""

    def register(function: Callable[..., Iterator[Finding]]) -> Callable[..., Iterator[Finding]]:
        RULES.append((tables, function))
        return function

    return register


def judge(tables: dict[str, Any]) -> list[Finding]:
    """The findings of every rule whose tables are all there."""
    return [
        finding
        for needed, function in RULES
        if all(name in tables for name in needed)
        for finding in function(*(tables[name] for name in needed))
    ]


@rule("users", "cluster")
def somebody_can_log_in(users: tuple[User, ...], cluster: Cluster) -> Iterator[Finding]:
    if not users and cluster.manager is None:
        yield "users", "nobody could log in: declare at least one user in a `[[users]]` table"


@rule("users")
def every_user_can_log_in(users: tuple[User, ...]) -> Iterator[Finding]:
    for index, user in enumerate(users):
        if user.password_hash is None and not user.ssh_keys:
            yield f"users[{index}]", "the user has no way in: give a `password_hash`, `ssh_keys` or both"


@rule("users")
def names_are_unique(users: tuple[User, ...]) -> Iterator[Finding]:
    first: dict[str, int] = {}
    for index, user in enumerate(users):
        if user.name in first:
            yield f"users[{index}].name", f"the same name as `users[{first[user.name]}]`"
        first.setdefault(user.name, index)


@rule("hub", "users")
def admins_are_users(hub: Hub, users: tuple[User, ...]) -> Iterator[Finding]:
    names = {user.name for user in users}
    for index, name in enumerate(hub.admins):
        if name not in names:
            yield f"hub.admins[{index}]", "an admin who is not among `users`"
        elif name in hub.admins[:index]:
            yield f"hub.admins[{index}]", "the same name twice"


@rule("hub", "tls")
def an_authority_needs_a_public_name(hub: Hub, tls: Tls) -> Iterator[Finding]:
    if tls.mode != "letsencrypt":
        return
    if hub.domain is None:
        yield "hub.domain", 'needed when `tls.mode` is "letsencrypt": a certificate is for a name'
    elif tls.directory_url is None and ("." not in hub.domain or hub.domain.rpartition(".")[2] in PRIVATE_TOP_LEVELS):
        yield "hub.domain", "Let's Encrypt certifies only public names: take one, or set `tls.directory_url`"


@rule("tls")
def an_authority_needs_an_address(tls: Tls) -> Iterator[Finding]:
    if tls.mode == "letsencrypt" and tls.email is None:
        yield "tls.email", 'needed when `tls.mode` is "letsencrypt"'


@rule("tls")
def keys_belong_to_the_mode(tls: Tls) -> Iterator[Finding]:
    modes = {
        "email": "letsencrypt", "staging": "letsencrypt", "directory_url": "letsencrypt", "ca_bundle": "letsencrypt",
        "certificate": "provided", "key": "provided",
    }  # fmt: skip
    for key, mode in modes.items():
        if getattr(tls, key) and tls.mode != mode:
            yield f"tls.{key}", f'is for `tls.mode = "{mode}"` only'


@rule("tls")
def one_authority(tls: Tls) -> Iterator[Finding]:
    if tls.staging and tls.directory_url:
        yield "tls.staging", "Let's Encrypt's staging service and `tls.directory_url` exclude each other"
    if tls.ca_bundle and not tls.directory_url and tls.mode == "letsencrypt":
        yield "tls.ca_bundle", "is for a private authority: it needs `tls.directory_url`"


@rule("hub", "tls")
def a_provided_certificate_fits(hub: Hub, tls: Tls) -> Iterator[Finding]:
    if tls.mode != "provided":
        return
    for key in ("certificate", "key"):
        if getattr(tls, key) is None:
            yield f"tls.{key}", 'needed when `tls.mode` is "provided"'
    if tls.certificate and tls.key:
        for problem in checks.certificate_problems(tls.certificate, tls.key, hub.domain):
            yield "tls.certificate", problem


@rule("cluster")
def a_worker_knows_its_manager(cluster: Cluster) -> Iterator[Finding]:
    if cluster.manager is None:
        if cluster.pin is not None:
            yield "cluster.pin", "is for workers, which name their `cluster.manager`"
        return
    for key in ("network", "secret", "pin"):
        if getattr(cluster, key) is None:
            yield f"cluster.{key}", "needed by a worker (`cluster.manager` is set)"
    if cluster.key is not None:
        yield "cluster.key", "is for the master only: a worker that has it could pretend to be the master"
    if cluster.network and ip_address(cluster.manager) not in ip_network(cluster.network):
        yield "cluster.manager", "is not in `cluster.network`"


@rule("cluster")
def the_network_is_not_that_of_containers(cluster: Cluster) -> Iterator[Finding]:
    if cluster.network and any(ip_network(cluster.network).overlaps(ip_network(one)) for one in CONTAINERS):
        yield "cluster.network", f"overlaps with the networks of containers ({' and '.join(CONTAINERS)})"


@rule("spawner", "cluster")
def a_swarm_needs_a_cluster(spawner: Spawner, cluster: Cluster) -> Iterator[Finding]:
    if spawner.kind != "swarm":
        for key in ("image", "on_master", "profiles"):
            if getattr(spawner, key):
                yield f"spawner.{key}", 'is for `spawner.kind = "swarm"` only'
        return
    if cluster.manager is None:
        for key in ("network", "secret", "key"):
            if getattr(cluster, key) is None:
                yield f"cluster.{key}", 'needed when `spawner.kind` is "swarm"'


@rule("spawner")
def the_master_has_no_bundled_image(spawner: Spawner) -> Iterator[Finding]:
    bundled = [profile.name for profile in spawner.profiles if profile.image is None] or not spawner.profiles
    if spawner.on_master and spawner.image is None and bundled:
        yield "spawner.on_master", "needs `spawner.image`: the image that workers bring is not on the master"


@rule("spawner")
def profiles_differ(spawner: Spawner) -> Iterator[Finding]:
    names = [profile.name for profile in spawner.profiles]
    for index, name in enumerate(names):
        if name in names[:index]:
            yield f"spawner.profiles[{index}].name", "the same name twice"


@rule("spawner", "users")
def a_swarm_has_no_ssh_users(spawner: Spawner, users: tuple[User, ...]) -> Iterator[Finding]:
    if spawner.kind != "swarm":
        return
    for index, user in enumerate(users):
        if user.ssh_keys:
            yield f"users[{index}].ssh_keys", 'with `spawner.kind = "swarm"` people come by the hub only'


@rule("users", "homes")
def quotas_are_sane(users: tuple[User, ...], homes: Homes) -> Iterator[Finding]:
    smallest = 16 * 1024**2  # JupyterLab's own settings, history and checkpoints need some megabytes
    if homes.quota < smallest:
        yield "homes.quota", "less than 16M: JupyterLab could not even keep its own files"
    for index, user in enumerate(users):
        if user.quota is not None and user.quota < smallest:
            yield f"users[{index}].quota", "less than 16M: JupyterLab could not even keep its own files"
