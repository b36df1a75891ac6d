"""`auth.method = "local"`: local accounts, by the PAM service `hubsmith`."""

import json
from pathlib import Path

from traitlets.config import Config

c: Config  # from the loader

if json.loads(Path("/run/hubsmith/jupyterhub.json").read_text())["authenticator"] == "local":
    c.JupyterHub.authenticator_class = "pam"
    c.PAMAuthenticator.service = "hubsmith"
    c.PAMAuthenticator.open_sessions = False
    # The same rule as in the settings. Names are case-sensitive: there is no account "Alice".
    c.PAMAuthenticator.username_pattern = r"[a-z][a-z0-9_-]{0,31}"
