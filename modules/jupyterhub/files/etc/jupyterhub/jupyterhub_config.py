"""JupyterHub: what is common to all authenticators and spawners.

The values come from /run/hubsmith/jupyterhub.json, made of /etc/hubsmith/settings.toml by `hubsmith apply`. The
authenticator and the spawner configure themselves in jupyterhub_config.d/, in the order of the names.
"""

import html
import json
import logging
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from sqlalchemy import event
from sqlalchemy.engine import Engine
from tornado.httpserver import HTTPServer
from traitlets.config import Config

from hubsmith_jupyterhub.errors import only_for

# From the loader.
c: Config
load_subconfig: Callable[[str], None]

DATABASE = Path("/var/lib/jupyterhub/jupyterhub.sqlite")
rendered = json.loads(Path("/run/hubsmith/jupyterhub.json").read_text())


def known_users() -> set[str]:
    """Return the names of all users in the hub's database."""
    if not DATABASE.exists():
        return set()
    # Not read-only, or SQLite could not roll back a transaction that a power cut interrupted.
    with closing(sqlite3.connect(f"file:{DATABASE}?mode=rw", uri=True)) as database:
        try:
            return {name for (name,) in database.execute("SELECT name FROM users")}
        except sqlite3.OperationalError:  # no table yet: the very first start was interrupted
            return set()


# Addresses. The proxy is a separate unit, so that stopping or restarting the hub closes no notebook.
c.JupyterHub.hub_bind_url = "http://127.0.0.1:881"
c.JupyterHub.bind_url = "http+unix://%2Frun%2Fconfigurable-http-proxy%2Fpublic.sock"
c.ConfigurableHTTPProxy.should_start = False
c.ConfigurableHTTPProxy.api_url = "http+unix://%2Frun%2Fconfigurable-http-proxy%2Fapi.sock"
c.ConfigurableHTTPProxy.auth_token = rendered["proxy_token"]
c.JupyterHub.cleanup_servers = False
c.JupyterHub.cleanup_proxy = False
# In seconds. The hub compares the proxy's routes with its own each time it updates the activity. So a restarted proxy
# knows all servers again after this time.
c.JupyterHub.last_activity_interval = 30

# State. By default SQLite does not flush the folder after it has deleted a journal: a power cut within half a minute
# would bring the journal back and undo what was committed (https://sqlite.org/pragma.html#pragma_synchronous).
c.JupyterHub.db_url = f"sqlite:///{DATABASE}"


def commits_survive_power_cuts(connection: sqlite3.Connection, record: object) -> None:
    """Set `synchronous` for each connection, because SQLite does not store it."""
    connection.execute("PRAGMA synchronous = EXTRA")


event.listen(Engine, "connect", commits_survive_power_cuts)

c.JupyterHub.upgrade_db = True
c.JupyterHub.cookie_secret = bytes.fromhex(rendered["cookie_secret"])

# By default Tornado reads bodies of 100 MB before anyone looks at the request, and waits for a client for an hour. The
# largest body that a hub gets is a list of user names.
HTTPServer.configure(None, max_body_size=256 * 1024, body_timeout=60, idle_connection_timeout=300)

# Users are those in the settings. Someone who was removed from them is blocked, which at the start of the hub also
# revokes tokens and stops servers.
users = frozenset(rendered["users"])
c.Authenticator.allowed_users = set(users)
c.Authenticator.allow_existing_users = False
c.Authenticator.blocked_users = known_users() - users
c.Authenticator.delete_invalid_users = True
# The API adds and renames users, too. JupyterHub matches the beginning of a name, hence the `\Z`.
c.Authenticator.username_pattern = rf"(?:{'|'.join(map(re.escape, sorted(users)))})\Z"
c.Spawner.pre_spawn_hook = only_for(users)
c.JupyterHub.oauth_require_pkce = True

# Permissions.
c.JupyterHub.allow_named_servers = False
c.JupyterHub.concurrent_spawn_limit = rendered["concurrent_spawn_limit"]
c.JupyterHub.services = [
    {"name": "idle-culler", "api_token": rendered["culler_token"], "display": False},
    {"name": "metrics", "api_token": rendered["metrics_token"], "display": False},
    {"name": "operator", "api_token": rendered["operator_token"], "display": False},
]
c.JupyterHub.load_roles = [
    # JupyterHub's own role `admin` may add and rename users, which are names of accounts here, and make tokens for
    # others. Nobody has it.
    {"name": "admin", "users": [], "services": []},
    {
        "name": "hub-admin",
        "description": "Admins of the hub: see all users; start, stop and open their servers",
        "users": rendered["admins"],
        "scopes": ["admin-ui", "list:users", "read:users", "servers", "access:servers"],
    },
    {
        "name": "idle-culler",
        "services": ["idle-culler"],
        "scopes": ["list:users", "read:users:activity", "read:servers", "delete:servers"],
    },
    {"name": "metrics", "services": ["metrics"], "scopes": ["read:metrics"]},
    # `hubsmith servers`
    {"name": "operator", "services": ["operator"], "scopes": ["list:users", "servers"]},
]

# Pages. JupyterHub puts the announcement into them as HTML.
c.JupyterHub.template_paths = ["/usr/share/hubsmith/jupyterhub/templates"]
c.JupyterHub.template_vars = {
    "announcement": html.escape(rendered["announcement"]),
    "hub_name": rendered["domain"] or "JupyterHub",
}

# The journal has the time already.
c.Application.log_format = "%(levelname)s %(module)s: %(message)s"
c.Application.log_datefmt = ""
# These lines contain the session ID. A filter applies to records logged here, not to those passed on by child loggers.
logging.getLogger("tornado.application").addFilter(
    lambda record: record.module != "_xsrf_utils" or record.levelno > logging.WARNING
)

for part in sorted(Path(__file__).with_name("jupyterhub_config.d").glob("*.py")):
    load_subconfig(str(part))
