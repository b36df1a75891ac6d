"""Limits of the web server."""

from __future__ import annotations

from hubsmith.settings.scalars import Size
from hubsmith.settings.tables import Field, Table, table


@table("hub")
class Hub(Table):
    upload_limit: Size = Field(
        default=1024**3,
        ge=1024**2,
        description="The largest file that can be uploaded in one request.",
        examples=["200M"],
    )
