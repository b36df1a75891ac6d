"""Unix sockets at long paths.

The kernel limits the path of a Unix socket to 107 bytes (``unix(7)``), and a machine's folder may have a longer path.
QEMU runs in the folder and uses relative names. Clients connect through ``/proc/self/fd``.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path


def connect_unix(path: Path, timeout: float | None = None, kind: int = socket.SOCK_STREAM) -> socket.socket:
    """Connect to a Unix socket at a path of any length.

    :param timeout: seconds for connecting; the returned socket is blocking.
    :raises OSError: the connection failed.
    """
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    connection = socket.socket(socket.AF_UNIX, kind)
    try:
        connection.settimeout(timeout)
        connection.connect(f"/proc/self/fd/{folder}/{path.name}")
        connection.settimeout(None)
    except OSError:
        connection.close()
        raise
    finally:
        os.close(folder)
    return connection
