"""Settings of the homes and their quotas."""

from __future__ import annotations

from hubsmith.settings.scalars import Bool, Size
from hubsmith.settings.tables import Field, Findings, Table, fact, rule, table

#: uid and gid that own all homes, if all servers run as the same user. None: each home is owned by its user.
HOME_OWNER = fact("home_owner", default=None)


@table("homes")
class Homes(Table):
    """The users' homes."""

    quota: Size = Field(
        default=2 * 1024**3,
        ge=1024**2,
        description="How much each user may store in the home.",
        examples=["5G"],
    )
    shared: Bool = Field(
        default=True,
        description="A folder `shared` in every home, which all users can read and admins can write.",
        examples=[False],
    )


@table("users", many=True)
class User(Table):
    quota: Size | None = Field(
        default=None,
        ge=1024**2,
        description="How much this user may store, instead of `homes.quota`.",
        examples=["10G"],
    )


@rule("users", "homes")
def quotas_are_sane(users: tuple[User, ...], homes: Homes) -> Findings:
    smallest = 16 * 1024**2  # JupyterLab's own settings, history and checkpoints need some megabytes
    if homes.quota < smallest:
        yield "homes.quota", "less than 16M: JupyterLab could not even keep its own files"
    for index, user in enumerate(users):
        if user.quota is not None and user.quota < smallest:
            yield f"users[{index}].quota", "less than 16M: JupyterLab could not even keep its own files"
