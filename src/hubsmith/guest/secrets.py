"""Secrets that a machine generates at first boot and keeps on state."""

from __future__ import annotations

import json
import secrets
from pathlib import Path

from hubsmith.errors import HubsmithError
from hubsmith.guest import files

#: Name and length in bytes. The values are hexadecimal. JupyterHub requires 32 bytes for the cookie secret and the
#: crypt key; that is enough for the tokens, too.
NAMES = {
    "cookie_secret": 32, "proxy_token": 32, "metrics_token": 32, "culler_token": 32, "operator_token": 32,
    "login_token": 32, "crypt_key": 32,
}  # fmt: skip


def load_or_make(path: Path) -> dict[str, str]:
    """Return the machine's secrets. Missing ones are generated, and flushed to disk before this returns.

    :raises HubsmithError: the file is damaged.
    """
    try:
        known = json.loads(path.read_text())
        if not isinstance(known, dict) or not all(isinstance(value, str) and value for value in known.values()):
            raise ValueError
    except FileNotFoundError:
        known = {}
    except ValueError:
        hint = f"rm {path} && hubsmith apply   # new secrets; all users must log in again"
        raise HubsmithError("the machine's secrets are damaged", where=str(path), hint=hint) from None
    made = {name: secrets.token_hex(size) for name, size in NAMES.items() if name not in known}
    if made or path.stat().st_mode & 0o777 != 0o600:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.write(path, json.dumps({**known, **made}, indent=1) + "\n", mode=0o600, durable=True)
    return {**known, **made}
