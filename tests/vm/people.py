"""Settings of hubs for the tests."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import bcrypt

PASSWORD = "correct horse battery"
WRONG = "battery horse correct"


@cache
def password_hash() -> str:
    """Of :data:`PASSWORD`; as cheap as bcrypt can be, since an emulated processor verifies it for each login.

    Always the same, so that machines with the same settings are the same (:mod:`hubsmith.testing.frozen`).
    """
    return bcrypt.hashpw(PASSWORD.encode(), b"$2b$04$abcdefghijklmnopqrstuu").decode()


def settings(names: Sequence[str] = ("alice", "bob"), *, quota: str = "", **tables: Mapping[str, Any]) -> str:
    """A settings file with these people, the first of whom is the admin.

    :param quota: of each home.
    :param tables: further tables, such as ``hub={"domain": …}``.
    """
    content = {"hub": {"admins": [names[0]]}, **{name: dict(table) for name, table in tables.items()}}
    content["hub"].setdefault("admins", [names[0]])
    if quota:
        content.setdefault("homes", {})["quota"] = quota
    lines = []
    for name, table in content.items():
        # Strings, numbers, booleans and lists of them are written alike in JSON and TOML.
        lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items())]
    for name in names:
        lines += ["[[users]]", f'name = "{name}"', f'password_hash = "{password_hash()}"']
    return "\n".join(lines) + "\n"
