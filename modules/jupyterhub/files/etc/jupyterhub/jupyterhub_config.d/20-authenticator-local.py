"""`auth.method = "local"`: the accounts of the machine, by the PAM service `hubsmith`."""

import json
from pathlib import Path

from traitlets.config import Config

c: Config  # from the loader
rendered = json.loads(Path("/run/hubsmith/jupyterhub.json").read_text())

if rendered["authenticator"] == "local":
    from hubsmith_jupyterhub.passwords import PasswordAuthenticator

    c.JupyterHub.authenticator_class = PasswordAuthenticator
    c.PasswordAuthenticator.service = "hubsmith"
    c.PasswordAuthenticator.open_sessions = False
    c.PasswordAuthenticator.users = set(rendered["users"])
    c.PasswordAuthenticator.login_token = rendered["login_token"]
