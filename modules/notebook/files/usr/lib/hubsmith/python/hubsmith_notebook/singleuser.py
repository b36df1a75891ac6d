"""`jupyterhub-singleuser` without what it loads and asks for in vain at each start.

A quarter of the processor time of a start and 35 MiB in every user's server: for twenty people, most of a gigabyte.
"""

import sys
from types import ModuleType


def stub(name: str, **contents: object) -> None:
    """Let a module count as imported."""
    sys.modules[name] = ModuleType(name)
    vars(sys.modules[name]).update(contents)


# Logging wants one class of the hub's handlers and one function of its metrics; checking permissions shares a module
# with the hub's database. Here no handler of the hub answers, nothing is counted, and there is no database.
stub("jupyterhub.handlers")
stub("jupyterhub.handlers.pages", HealthCheckHandler=type("HealthCheckHandler", (), {}))
stub("jupyterhub.metrics", prometheus_log_method=lambda handler: None)
stub("jupyterhub.orm")
stub("jupyterhub.roles")

from jupyterlab_server import process  # noqa: E402

which = process.which


def which_but_node(command: str, env: dict[str, str] | None = None) -> str:
    """JupyterLab asks Node.js for yarn's registry, which is needed only to build extensions."""
    if command == "node":
        raise ValueError("no Node.js for JupyterLab")
    found: str = which(command, env)
    return found


process.which = which_but_node

from jupyter_core.application import JupyterApp  # noqa: E402

# It would look for settings of IPython 3 (2015), and note in the home that it did: no server would start in a full one.
JupyterApp.migrate_config = lambda app: None

from jupyterhub.singleuser import main  # noqa: E402

sys.exit(main())
