"""Standard folders: project tree, cache, state of deployments, and the user's configuration."""

from __future__ import annotations

import os
from pathlib import Path

from hubsmith.errors import HubsmithError


def project_root(start: Path | None = None) -> Path:
    """Find the project tree: the nearest folder with ``images/`` and ``modules/``.

    :param start: folder to start from, by default the current one. Its parents are searched, too.
    :raises HubsmithError: no such folder was found.
    """
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / "images").is_dir() and (folder / "modules").is_dir():
            return folder
    raise HubsmithError("not inside a hubsmith tree (a folder with images/ and modules/)", where=str(here))


def cache_dir() -> Path:
    """Return the cache: ``$HUBSMITH_CACHE`` or ``~/.cache/hubsmith``."""
    return Path(os.environ.get("HUBSMITH_CACHE") or Path.home() / ".cache" / "hubsmith")


def state_dir() -> Path:
    """Return the folder of deployments (mode 0700): ``$HUBSMITH_STATE`` or ``~/.local/state/hubsmith``."""
    return Path(os.environ.get("HUBSMITH_STATE") or Path.home() / ".local" / "state" / "hubsmith")


def config_dir() -> Path:
    """Return the folder of the user's keys: ``$HUBSMITH_CONFIG`` or ``~/.config/hubsmith``."""
    return Path(os.environ.get("HUBSMITH_CONFIG") or Path.home() / ".config" / "hubsmith")
