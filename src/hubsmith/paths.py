"""Where things are: the project's tree, the cache, the state of deployments, and what a person has set up."""

from __future__ import annotations

import os
from pathlib import Path

from hubsmith.errors import HubsmithError


def project_root(start: Path | None = None) -> Path:
    """The nearest folder at or above ``start`` (the current folder) that holds ``images/`` and ``modules/``.

    :raises HubsmithError: there is none.
    """
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / "images").is_dir() and (folder / "modules").is_dir():
            return folder
    raise HubsmithError("not inside a hubsmith tree (a folder with images/ and modules/)", where=str(here))


def cache_dir() -> Path:
    """The content-addressed cache of artifacts: ``$HUBSMITH_CACHE`` or ``~/.cache/hubsmith``."""
    return Path(os.environ.get("HUBSMITH_CACHE") or Path.home() / ".cache" / "hubsmith")


def state_dir() -> Path:
    """The state of deployments (mode 0700): ``$HUBSMITH_STATE`` or ``~/.local/state/hubsmith``."""
    return Path(os.environ.get("HUBSMITH_STATE") or Path.home() / ".local" / "state" / "hubsmith")


def config_dir() -> Path:
    """Keys and the like of a person: ``$HUBSMITH_CONFIG`` or ``~/.config/hubsmith``."""
    return Path(os.environ.get("HUBSMITH_CONFIG") or Path.home() / ".config" / "hubsmith")
