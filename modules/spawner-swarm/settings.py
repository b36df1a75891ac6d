"""Settings of the Swarm spawner, which runs notebook servers as containers of a Docker Swarm."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Protocol

from pydantic import AfterValidator

from hubsmith.settings.scalars import Bool, Label, Line, Number, Size, Str
from hubsmith.settings.tables import Field, Findings, Table, choice, provides, rule, table

SWARM = choice("spawner.kind", "swarm", "containers on the workers of `cluster`, spread by Docker Swarm.")
#: All notebook images run as this user and group.
CONTAINER_USER = (1000, 100)


def image_reference(value: str) -> str:
    """Validate the name of a container image, which may have a tag and a digest."""
    part = r"[a-z0-9]+(?:[._-]+[a-z0-9]+)*"
    host = r"(?:[A-Za-z0-9.-]+(?::\d+)?/)?"
    if not re.fullmatch(rf"{host}{part}(?:/{part})*(?::[\w][\w.-]{{0,127}})?(?:@sha256:[0-9a-f]{{64}})?", value):
        raise ValueError("not the name of a container image, such as registry.example.com/notebook:2026-09-01")
    return value


ImageReference = Annotated[Str, AfterValidator(image_reference), Label("container image")]


class Profile(Table):
    """A kind of server that users can choose. The first profile is the default."""

    name: Line = Field(min_length=1, max_length=80, description="What people read.", examples=["Large"])
    memory: Size | None = Field(
        default=None, ge=128 * 1024**2, description="Instead of `spawner.memory`.", examples=["8G"]
    )
    cpu: Number | None = Field(default=None, ge=0.1, le=1024, description="Instead of `spawner.cpu`.", examples=[4.0])
    image: ImageReference | None = Field(
        default=None, description="Instead of `spawner.image`.", examples=["registry.example.org/r-notebook:4.5"]
    )


@table("spawner")
class Spawner(Table):
    if TYPE_CHECKING:  # a field of the module jupyterhub
        kind: str
    image: ImageReference | None = Field(
        default=None,
        description="For `swarm`: the container image of the servers. Each worker pulls it before it is used. The "
        "default is the image that workers contain.",
        examples=["registry.example.org/notebook:2026-09-01"],
    )
    on_master: Bool = Field(
        default=False,
        description="For `swarm`: let servers run on the master, too. This needs an `image`, because only workers "
        "contain one.",
        examples=[True],
    )
    profiles: tuple[Profile, ...] = Field(
        default=(),
        description="For `swarm`: kinds of servers that users can choose from. By default there is one kind and no "
        "choice.",
        examples=[[{"name": "Small"}, {"name": "Large", "memory": "8G"}]],
    )


class Cluster(Protocol):
    """The keys of the module `swarm-cluster` that this module reads."""

    network: str | None
    secret: str | None
    key: str | None


class User(Protocol):
    """The keys of the module `accounts` that this module reads."""

    ssh_keys: tuple[str, ...]


@provides("swarm", "spawner")
def servers_run_in_the_swarm(spawner: Spawner) -> bool:
    return spawner.kind == "swarm"


@provides("swarm_on_master", "spawner")
def servers_run_on_the_master(spawner: Spawner) -> bool:
    return spawner.kind == "swarm" and spawner.on_master


@provides("home_owner", "spawner")
def owner_of_the_homes(spawner: Spawner) -> tuple[int, int] | None:
    return CONTAINER_USER if spawner.kind == "swarm" else None


@rule("spawner", "cluster")
def a_swarm_needs_a_cluster(spawner: Spawner, cluster: Cluster) -> Findings:
    if spawner.kind != "swarm":
        for key in ("image", "on_master", "profiles"):
            if getattr(spawner, key):
                yield f"spawner.{key}", 'is for `spawner.kind = "swarm"` only'
        return
    for key in ("network", "secret", "key"):
        if getattr(cluster, key) is None:
            yield f"cluster.{key}", 'needed when `spawner.kind` is "swarm"'


@rule("spawner")
def the_master_has_no_bundled_image(spawner: Spawner) -> Findings:
    bundled = [profile.name for profile in spawner.profiles if profile.image is None] or not spawner.profiles
    if spawner.on_master and spawner.image is None and bundled:
        yield "spawner.on_master", "needs `spawner.image`: the image that workers contain is not on the master"


@rule("spawner")
def profiles_differ(spawner: Spawner) -> Findings:
    names = [profile.name for profile in spawner.profiles]
    for index, name in enumerate(names):
        if name in names[:index]:
            yield f"spawner.profiles[{index}].name", "the same name twice"


@rule("spawner", "users")
def a_swarm_has_no_ssh_users(spawner: Spawner, users: Sequence[User]) -> Findings:
    if spawner.kind != "swarm":
        return
    for index, user in enumerate(users):
        if user.ssh_keys:
            yield f"users[{index}].ssh_keys", 'users cannot log in by SSH with `spawner.kind = "swarm"`'
