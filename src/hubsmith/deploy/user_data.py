"""User-data that carries launch-time settings to a machine's cloud-init."""

from __future__ import annotations

import json
import re

#: A backslash, or JSON's escape of a character beyond U+FFFF.
_ESCAPES = re.compile(r"\\\\|\\u(d[89ab][0-9a-f]{2})\\u(d[c-f][0-9a-f]{2})")


def user_data(settings: str) -> str:
    """Return user-data that writes the settings file, readable by root only.

    :param settings: text of the settings file.
    """
    file = {"path": "/etc/hubsmith/settings.toml", "permissions": "0600", "content": settings}
    # JSON is YAML, except that YAML reads a pair of surrogates as two characters.
    return "#cloud-config\n" + _ESCAPES.sub(_long_escape, json.dumps({"write_files": [file]}))


def _long_escape(found: re.Match[str]) -> str:
    """Return YAML's escape of the character that a pair of surrogates stands for."""
    if found[1] is None:
        return found[0]
    high, low = int(found[1], 16), int(found[2], 16)
    return f"\\U{0x10000 + (high - 0xD800 << 10) + low - 0xDC00:08X}"
