"""Status item of the homes. Also writes each user's usage to a file that only this user can read.

/run/hubsmith/usage/NAME.json: {"used": bytes, "limit": bytes, "files": number, "files_limit": number}
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from hubsmith.guest.files import write
from hubsmith.guest.programs import mounted
from hubsmith.guest.status.answer import answer
from hubsmith_homes.apply import DAMAGED, USAGE
from hubsmith_homes.quotas import HOMES, kind, report

METRICS = Path("/run/hubsmith/metrics")
NEAR = 0.9


def hub_users() -> dict[int, str]:
    """Return the names of the hub's users by uid."""
    groups = (line.split(":") for line in Path("/etc/group").read_text().splitlines())
    members = next((set(fields[3].split(",")) for fields in groups if fields[0] == "hubusers"), set())
    accounts = (line.split(":") for line in Path("/etc/passwd").read_text().splitlines())
    return {int(fields[2]): fields[0] for fields in accounts if fields[0] in members}


def write_metrics(rows: list[tuple[str, dict[str, int]]]) -> None:
    """Write all users' usage as Prometheus metrics. `modules/metrics` controls who may read them."""
    lines = []
    for key, name in (("used", "bytes"), ("limit", "limit_bytes"), ("files", "files"), ("files_limit", "limit_files")):
        lines += [f"# TYPE hubsmith_home_{name} gauge"]
        lines += [f'hubsmith_home_{name}{{user="{user}"}} {usage[key]}' for user, usage in rows]
    write(METRICS / "homes.prom", "\n".join(lines) + "\n", mode=0o640, gid=METRICS.stat().st_gid)


def look() -> tuple[str, str]:
    """Write each user's usage, and return the state of the homes with the reason."""
    _, file_system, options = mounted(Path(HOMES))
    if not file_system:
        return "failed", "the homes are not mounted"
    if file_system != "xfs" or "prjquota" not in options:
        return "failed", "quotas are off"
    users, blocks, files = hub_users(), report(kind(), "b"), report(kind(), "i")
    near, full, rows = 0, 0, []
    if USAGE.is_dir():
        for uid, name in users.items():
            used, limit = (1024 * value for value in blocks.get(uid, (0, 0)))
            count, count_limit = files.get(uid, (0, 0))
            usage = {"used": used, "limit": limit, "files": count, "files_limit": count_limit}
            write(USAGE / f"{name}.json", json.dumps(usage), mode=0o400, uid=uid, gid=uid)
            rows.append((name, usage))
            share = max(used / limit if limit else 0.0, count / count_limit if count_limit else 0.0)
            near, full = near + (NEAR <= share < 0.995), full + (share >= 0.995)
        kept = {f"{name}.json" for name in users.values()}
        for file in USAGE.iterdir():
            if file.name not in kept:
                file.unlink()
    if METRICS.is_dir():
        write_metrics(rows)
    space = os.statvfs(HOMES)
    free, total = space.f_bavail * space.f_frsize, space.f_blocks * space.f_frsize
    why = f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
    for number, what in ((near, "near the quota"), (full, "at the quota")):
        why += f", {number} of {len(users)} users {what}" if number else ""
    damaged = json.loads(DAMAGED.read_text()) if DAMAGED.exists() else {}
    for name, what in damaged.items():
        why += f", /home/{name} cannot be used: {what}"
    if free < 64 * 2**20:
        return "failed", f"full: {why}"
    return ("degraded" if damaged or free < 0.05 * total else "ready"), why


if __name__ == "__main__":
    answer(*look())
