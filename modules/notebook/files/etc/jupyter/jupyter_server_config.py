"""Notebook servers of this machine. A user's own ~/.jupyter comes after it and may change it."""

import os
import shutil
from pathlib import Path

from jupyter_core.paths import jupyter_data_dir, jupyter_runtime_dir
from traitlets.config import Config

c: Config  # from the loader

# Kernels talk through sockets in the user's own runtime folder: over TCP, every user of the machine could read what
# they print.
c.KernelManager.transport = "ipc"

# The environment's kernel.json is ours: it is ipykernel's, without the button of the visual debugger, since debugpy
# listens on the loopback without a password, for all users of the machine.

# What is deleted is gone: a trash inside the home would keep its quota used up.
c.FileContentsManager.delete_to_trash = False

# A terminal is a login shell, as over SSH.
c.ServerApp.terminado_settings = {"shell_command": ["/bin/bash", "-l"]}

# Requests are logged by NGINX; these are many lines and hold the names of the users' files.
c.Application.log_level = "WARN"

# No news, no look for updates, no extensions from elsewhere: the environment is that of the image.
c.LabApp.news_url = None
c.LabApp.check_for_updates_class = "jupyterlab.NeverCheckForUpdate"
c.LabApp.extension_manager = "readonly"

# What the person sees of the own use. The disk is the home with its quota.
c.ResourceUseDisplay.track_disk_usage = True
c.ResourceUseDisplay.disk_path = str(Path.home())
c.ResourceUseDisplay.disk_warning_threshold = 0.1
c.ResourceUseDisplay.mem_warning_threshold = 0.1

# Opening a notebook writes into the database of trusted notebooks, and for the first one makes the key that they are
# signed with; the first kernel makes ~/.ipython. In a full home that would fail: they go into memory then.
if shutil.disk_usage(Path.home()).free < 4 * 1024**2:
    c.NotebookNotary.db_file = ":memory:"
    if not Path(jupyter_data_dir(), "notebook_secret").exists():
        c.NotebookNotary.data_dir = jupyter_runtime_dir()
    if not Path("~/.ipython").expanduser().exists():
        os.environ["IPYTHONDIR"] = str(Path(jupyter_runtime_dir(), "ipython"))
