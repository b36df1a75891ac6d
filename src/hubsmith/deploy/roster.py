"""Accounts for a class: names with one-time passwords to hand out, and their settings."""

from __future__ import annotations

import csv
import html
import io
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import tomli_w
from rich.console import Console
from rich.progress import track

from hubsmith.errors import HubsmithError
from hubsmith.settings.passwords import hash_password, one_time_password
from hubsmith.threads import completed

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Accounts</title><style>
body { font: 11pt sans-serif; margin: 0; display: grid; grid-template-columns: 1fr 1fr }
section { border: 1px dashed #888; padding: 6mm; break-inside: avoid }
dt { color: #555; font-size: 9pt } dd { margin: 0 0 2mm; font: 13pt monospace; overflow-wrap: anywhere }
</style></head><body>
"""


@dataclass(frozen=True)
class Account:
    """A user name and its one-time password."""

    name: str
    password: str


def accounts(prefix: str, numbers: Iterable[int]) -> list[Account]:
    """Create accounts `<prefix>1`, `<prefix>2`, …, each with its own password."""
    return [Account(f"{prefix}{number}", one_time_password()) for number in numbers]


def as_settings(roster: Sequence[Account]) -> str:
    """Return the `[[users]]` tables of a settings file, with password hashes.

    Hashing takes a quarter of a second per account. All processors are used.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        hashes = [pool.submit(hash_password, one.password) for one in roster]
        done = completed(hashes)
        for _ in track(done, "hashing passwords", len(roster), console=Console(stderr=True), transient=True):
            pass
    users = [{"name": one.name, "password_hash": hashed.result()} for one, hashed in zip(roster, hashes, strict=True)]
    return tomli_w.dumps({"users": users})


def as_csv(roster: Iterable[Account], url: str) -> str:
    """Return the accounts as CSV, for a spreadsheet or mail merge."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("name", "password", "url"))
    rows.writerows((one.name, one.password, url) for one in roster)
    return text.getvalue()


def as_page(roster: Iterable[Account], url: str) -> str:
    """Return an HTML page to print and cut, with a slip for each account."""
    slips = (
        f"<section><dl><dt>Address</dt><dd>{html.escape(url)}</dd><dt>Name</dt><dd>{html.escape(one.name)}</dd>"
        f"<dt>Password</dt><dd>{html.escape(one.password)}</dd></dl></section>\n"
        for one in roster
    )
    return _PAGE + "".join(slips) + "</body></html>\n"


def write_new(folder: Path, contents: dict[str, str]) -> list[Path]:
    """Write files with secrets, readable by their owner only. Existing files are never overwritten.

    A folder that this creates gets a `.gitignore` for all its files.

    :raises HubsmithError: one of the files exists already; none is written.
    """
    files = [folder / name for name in contents]
    if there := [file for file in files if file.exists()]:
        raise HubsmithError("the file exists and is not overwritten", where=str(there[0]), hint="name another folder")
    if not folder.exists():
        folder.mkdir(mode=0o700, parents=True)
        contents = {".gitignore": "*\n", **contents}
    for name, text in contents.items():
        with open(
            folder / name, "x", opener=lambda path, flags: os.open(path, flags, 0o600), encoding="utf-8"
        ) as stream:
            stream.write(text)
    return files
