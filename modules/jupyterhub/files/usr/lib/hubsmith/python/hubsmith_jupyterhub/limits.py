"""Limits on what one user can store in the hub's database."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, event, func, inspect, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Mapper
from tornado.web import HTTPError

#: Rows of one user in one table. Each log-in to a notebook server adds a token that lasts for two weeks.
ROWS = 1000
#: Characters of a token's note. The column's own limit has no effect in SQLite.
NOTE = 250


class RowRefused(HTTPError, SQLAlchemyError):
    """A row that would be one too many or too large.

    The hub rolls back its session after errors of the database only.
    """


def check_row(mapper: Mapper[Any], connection: Connection, row: Any) -> None:
    """Check a token or an OAuth code before it is stored. Those of services, which belong to no user, are not limited.

    The hub may insert a row first and set its user later.

    :raises RowRefused: the user has too many, or the note is too long.
    """
    if len(getattr(row, "note", None) or "") > NOTE:
        raise RowRefused(400, f"the note is longer than {NOTE} characters")
    if row.user_id is None or not inspect(row).attrs.user_id.history.has_changes():
        return
    table = mapper.local_table
    query = select(func.count()).select_from(table).where(table.c.user_id == row.user_id)
    if connection.scalar(query) >= ROWS:
        raise RowRefused(403, f"you have {ROWS} tokens: revoke some, or wait until they expire")


def limit_rows(*tables: type) -> None:
    """Check each new row of these tables."""
    for table in tables:
        for moment in ("before_insert", "before_update"):
            event.listen(table, moment, check_row)
