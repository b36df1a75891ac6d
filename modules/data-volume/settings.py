"""Settings of the data volume."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator

from hubsmith.settings.scalars import Label, Str
from hubsmith.settings.tables import Field, Table, table


def volume(value: str) -> str:
    """Validate the serial number of a disk, or ``auto``."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", value):
        raise ValueError('not the serial number of a volume: letters, digits, `-`, `.` and `_`; or "auto"')
    return value


Volume = Annotated[Str, AfterValidator(volume), Label("volume")]


@table("data")
class Data(Table):
    """Where homes and state are stored."""

    volume: Volume | None = Field(
        default=None,
        description="The attached volume for the homes and the hub's state, so that a newer machine can take them "
        'over. Give the volume\'s serial number (in OpenStack: its ID), or `"auto"` if there is only one. A blank '
        "volume is formatted; a volume with other data is rejected. By default homes and state are on the system disk.",
        examples=["auto", "2f7c1d5e-6a0b-4c39-9d53-0c1c8f1f6b1e"],
    )
