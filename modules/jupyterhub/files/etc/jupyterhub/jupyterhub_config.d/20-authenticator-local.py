"""`auth.method = "local"`: local accounts, by the PAM service `hubsmith`."""

import json
from pathlib import Path

from traitlets.config import Config

c: Config  # from the loader

if json.loads(Path("/run/hubsmith/jupyterhub.json").read_text())["authenticator"] == "local":
    c.JupyterHub.authenticator_class = "pam"
    c.PAMAuthenticator.service = "hubsmith"
    c.PAMAuthenticator.open_sessions = False
