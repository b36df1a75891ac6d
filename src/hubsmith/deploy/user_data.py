"""How launch-time settings reach a machine: the user-data that its cloud hands to cloud-init."""

from __future__ import annotations

import json


def user_data(settings: str) -> str:
    """User-data that does nothing but write the settings, for root alone.

    :param settings: the text of a settings file.
    """
    file = {"path": "/etc/hubsmith/settings.toml", "permissions": "0600", "content": settings}
    return "#cloud-config\n" + json.dumps({"write_files": [file]})  # JSON is YAML
