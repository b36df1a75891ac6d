"""Where homes and state live."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator

from hubsmith.settings.scalars import Label, Str
from hubsmith.settings.tables import Field, Table, table


def volume(value: str) -> str:
    """The serial number of a disk, or ``auto``."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", value):
        raise ValueError('not the serial number of a volume: letters, digits, `-`, `.` and `_`; or "auto"')
    return value


Volume = Annotated[Str, AfterValidator(volume), Label("volume")]


@table("data")
class Data(Table):
    """Where homes and state live."""

    volume: Volume | None = Field(
        default=None,
        description="The attached volume for the homes and the hub's state, so that a newer machine can take them "
        'over: its serial number (in OpenStack the ID of the volume), or `"auto"` for the only one there is. A blank '
        "volume gets a file system; one that holds anything else is refused. Without it they are on the system disk.",
        examples=["auto", "2f7c1d5e-6a0b-4c39-9d53-0c1c8f1f6b1e"],
    )
