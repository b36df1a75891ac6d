"""Hooks: the modules' own steps of an apply, in ``/usr/lib/hubsmith/apply.d/<NN>-<topic>``."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hubsmith.errors import HubsmithError
from hubsmith.guest.modules import Module
from hubsmith.guest.outcome import Refused
from hubsmith.guest.render import context_for
from hubsmith.run import run

log = logging.getLogger("hubsmith.guest")

#: Timeout of a hook in seconds. Making the accounts of a class of a hundred takes minutes on an emulated processor.
LONGEST = 600


def run_hooks(folder: Path, modules: Mapping[str, Module], context: Mapping[str, Any]) -> None:
    """Run every executable in ``folder`` in the order of their names.

    :raises Refused: a hook belongs to no module, cannot be run, times out, or exits with a code other than 0.
    """
    for hook in sorted(folder.iterdir()) if folder.is_dir() else ():
        topic = hook.name.partition("-")[2]
        public = f"the step `{topic or hook.name}` failed"
        if topic not in modules:
            raise Refused(public, f"{hook}: no module has the name {topic!r}")
        if not os.access(hook, os.X_OK):
            raise Refused(public, f"{hook}: not executable")
        try:
            done = run([hook], stdin=json.dumps(context_for(modules[topic], context)), timeout=LONGEST, check=False)
        except (HubsmithError, OSError) as error:
            raise Refused(public, f"{hook}: {error}") from error
        said = [*done.stdout.splitlines(), *done.stderr.strip().splitlines()]
        reason = said.pop() if done.returncode != 0 and done.stderr.strip() else f"exit code {done.returncode}"
        for line in said:
            log.info("%s: %s", topic, line)
        if done.returncode != 0:
            raise Refused(public, f"{hook}: {reason}")
