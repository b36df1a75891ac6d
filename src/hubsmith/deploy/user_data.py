"""User-data that carries launch-time settings to a machine's cloud-init."""

from __future__ import annotations

import json


def user_data(settings: str) -> str:
    """Return user-data that writes the settings file, readable by root only.

    :param settings: text of the settings file.
    """
    file = {"path": "/etc/hubsmith/settings.toml", "permissions": "0600", "content": settings}
    return "#cloud-config\n" + json.dumps({"write_files": [file]})  # JSON is YAML
