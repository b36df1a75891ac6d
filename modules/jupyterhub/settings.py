"""Settings of the hub, the login, and those common to all spawners."""

from __future__ import annotations

from collections.abc import Sequence

from hubsmith.settings.scalars import Duration, Int, Line, Number, Size
from hubsmith.settings.tables import Choices, Field, Findings, Table, choice, provides, rule, table


@table("hub")
class Hub(Table):
    """Settings of the whole hub."""

    announcement: Line = Field(
        default="",
        max_length=500,
        description="One line of plain text, shown on the hub's pages.",
        examples=["Maintenance on Friday from 18:00 to 19:00 UTC"],
    )
    concurrent_spawn_limit: Int = Field(
        default=20,
        ge=1,
        le=1000,
        description="How many servers may start at the same time. Further users are asked to try again.",
        examples=[50],
    )


@table("auth")
class Auth(Table):
    """How users log in."""

    method: Choices = Field()


LOCAL = choice("auth.method", "local", "the Unix accounts that are declared in `users`, and no others.", default=True)


@table("spawner")
class Spawner(Table):
    """Where and how notebook servers run."""

    kind: Choices = Field()
    memory: Size = Field(
        default=1024**3,
        ge=128 * 1024**2,
        description="The most memory that one user's server can use.",
        examples=["2G"],
    )
    cpu: Number = Field(
        default=1.0,
        ge=0.1,
        le=1024,
        description="The most processor time that one user's server can use, in cores.",
        examples=[2.0],
    )
    start_timeout: Duration = Field(
        default=120,
        ge=10,
        le=3600,
        description="How long a server may take to start before the hub gives up.",
        examples=["3m"],
    )


@table("idle")
class Idle(Table):
    """When unused servers and kernels are stopped."""

    cull_after: Duration = Field(
        default=3600,
        description='Servers that were inactive for this time are stopped. `"0s"`: never.',
        examples=["2h"],
    )
    every: Duration = Field(
        default=300,
        ge=10,
        description="How often the hub looks for idle servers.",
        examples=["10m"],
    )
    kernels_after: Duration = Field(
        default=3600,
        description='Idle kernels without an open browser are stopped after this time. `"0s"`: never.',
        examples=["12h"],
    )


@rule("auth", "users")
def somebody_can_log_in(auth: Auth, users: Sequence[object]) -> Findings:
    if auth.method == "local" and not users:
        yield "users", "no one can log in: declare at least one user in a `[[users]]` table"


@provides("ways_in", "auth")
def ways_in(auth: Auth) -> tuple[str, ...]:
    return ("password_hash", "ssh_keys") if auth.method == "local" else ()
