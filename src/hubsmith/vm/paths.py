"""Unix sockets at any path.

The kernel limits a unix socket's path to 107 bytes (``unix(7)``), and a machine's folder may lie deeper than that.
QEMU is started inside the folder and given relative names; clients go through ``/proc/self/fd``.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path


def connect_unix(path: Path, timeout: float | None = None, kind: int = socket.SOCK_STREAM) -> socket.socket:
    """Connect to a unix socket, however long its path is.

    :param timeout: seconds for the connection itself; the socket that is returned blocks.
    :raises OSError: nobody listens there.
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
