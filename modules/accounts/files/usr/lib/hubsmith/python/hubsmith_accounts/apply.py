"""Create and lock local accounts as the settings say. Reads apply's JSON on standard input.

A name keeps its uid forever (`accounts.json` on state, written before the account is made). If a user is removed from
the settings, the account is locked, its processes are killed, and its home is kept. If a home exists already, on a data
volume of an earlier machine, the name gets the uid of the home's owner.
"""

from __future__ import annotations

import grp
import json
import os
import pwd
import sys
from pathlib import Path
from typing import Any

from hubsmith.guest.context import read_context
from hubsmith.guest.files import write
from hubsmith.guest.programs import run

FIRST_UID, LAST_UID = 2000, 59999
GROUPS = ("hubusers", "hubadmins")
GROUPS_FILE = "/usr/lib/sysusers.d/hubsmith-accounts.conf"
RECORD = Path("/var/lib/hubsmith/kept/accounts.json")
KEYS = Path("/run/hubsmith/authorized_keys")
HOMES = Path("/home")
#: Values that crypt(5) never produces. No one can log in with a password; SSH keys still work.
NO_PASSWORD, LOCKED = "*", "!*"


def assign_uids(names: list[str], known: dict[str, int]) -> dict[str, int]:
    """Return the uid of each name. New uids are used by no account, group or home."""
    owners = {home.name: home.lstat().st_uid for home in HOMES.iterdir()}
    taken = {
        *known.values(),
        *owners.values(),
        *(p.pw_uid for p in pwd.getpwall()),
        *(g.gr_gid for g in grp.getgrall()),
    }
    uids = dict(known)
    for name in names:
        if name in uids:
            continue
        if any(account.pw_name == name for account in pwd.getpwall()):
            sys.exit(f"the account {name!r} exists already, and it is not the hub's: take another name")
        owner = owners.get(name, -1)
        if FIRST_UID <= owner <= LAST_UID and owner not in uids.values():
            uids[name] = owner
        else:
            uids[name] = next(uid for uid in range(FIRST_UID, LAST_UID + 1) if uid not in taken)
        taken.add(uids[name])
    return uids


def shadow() -> dict[str, tuple[str, str]]:
    """Return password hash and expiry date by name."""
    lines = (line.split(":") for line in Path("/etc/shadow").read_text().splitlines())
    return {fields[0]: (fields[1], fields[7]) for fields in lines}


def make_accounts(users: dict[str, dict[str, Any]], uids: dict[str, int], admins: set[str]) -> None:
    """Create groups, accounts and memberships with systemd-sysusers, which leaves existing ones alone."""
    lines = []
    for name in users:
        lines += [f'u {name} {uids[name]} "" {HOMES}/{name} /bin/bash', f"m {name} hubusers"]
        lines += [f"m {name} hubadmins"] if name in admins else []
    run("systemd-sysusers", GROUPS_FILE, "-", stdin="\n".join(lines) + "\n")
    for name in users:
        if pwd.getpwnam(name).pw_uid != uids[name]:
            sys.exit(f"the account {name!r} has another uid than the one recorded in {RECORD}")


def set_passwords(users: dict[str, dict[str, Any]]) -> None:
    """Set password hashes that differ, and unlock accounts that were locked."""
    found = shadow()
    wanted = {name: user["password_hash"] or NO_PASSWORD for name, user in users.items()}
    differ = [name for name, value in wanted.items() if found[name][0] != value]
    if differ:
        run("chpasswd", "--encrypted", stdin="".join(f"{name}:{wanted[name]}\n" for name in differ))
    for name in users:
        if found[name][1]:
            run("usermod", "--expiredate", "", name)


def take_out(name: str, group: str) -> None:
    """Remove a user from a group."""
    if name in grp.getgrnam(group).gr_mem:
        run("gpasswd", "--delete", name, group)


def lock(name: str, uid: int) -> None:
    """Lock an account for passwords and SSH keys, and kill its processes."""
    if shadow()[name] != (LOCKED, "1"):
        run("chpasswd", "--encrypted", stdin=f"{name}:{LOCKED}\n")
        run("usermod", "--expiredate", "1", name)  # a date in 1970, so that PAM rejects SSH keys, too
    for group in GROUPS:
        take_out(name, group)
    run("pkill", "-KILL", "--uid", uid, may_end_with=(0, 1))


def write_keys(users: dict[str, dict[str, Any]]) -> None:
    """Write the SSH keys, one root-owned file per user. The files are world-readable: sshd reads them as the user."""
    KEYS.mkdir(mode=0o755, exist_ok=True)
    for name, user in users.items():
        if user["ssh_keys"]:
            write(KEYS / name, "\n".join(user["ssh_keys"]) + "\n")
    for file in KEYS.iterdir():
        if file.name not in users or not users[file.name]["ssh_keys"]:
            file.unlink()


def main() -> None:
    os.umask(0o022)
    settings = read_context()["settings"]
    users = {user["name"]: user for user in settings["users"]}
    admins = set(settings["hub"]["admins"])
    known = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    uids = assign_uids(list(users), known)
    if uids != known:
        write(RECORD, json.dumps(uids, indent=1) + "\n", mode=0o600, durable=True)
    make_accounts(users, uids, admins)
    set_passwords(users)
    for name in users:
        if name not in admins:
            take_out(name, "hubadmins")
    accounts = {account.pw_name: account.pw_uid for account in pwd.getpwall()}
    for name, uid in uids.items():
        if name not in users and accounts.get(name) == uid:
            lock(name, uid)
    write_keys(users)


if __name__ == "__main__":
    main()
