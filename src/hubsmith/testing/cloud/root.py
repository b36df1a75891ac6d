"""Root file system of the servers: Debian packages, unpacked but not configured, kept in the cache."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from hubsmith.archives.apt import AptRoot
from hubsmith.archives.machine import machine_acquire
from hubsmith.paths import cache_dir
from hubsmith.run import run

SUITE = "trixie"
#: Packages of Keystone, Glance, the client and the web server.
PACKAGES = (
    "ca-certificates", "glance-api", "keystone", "python3-openstackclient", "uwsgi-core", "uwsgi-plugin-python3",
)  # fmt: skip
#: Files that maintainer scripts would have created.
MADE = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\n",
    "etc/group": "root:x:0:\n",
    "etc/hosts": "127.0.0.1 localhost\n",
}


def servers_root() -> Path:
    """Return the root, creating it if necessary. This downloads about 300 MB from this computer's Debian mirror.

    :raises HubsmithError: the root cannot be created.
    """
    name = hashlib.sha256(repr((SUITE, PACKAGES, MADE)).encode()).hexdigest()[:16]
    root = cache_dir() / "cloud" / name
    if root.is_dir():
        return root
    partial = root.with_name(f".{name}.{os.getpid()}")
    partial.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="hubsmith-cloud-") as scratch:
        apt = AptRoot(Path(scratch) / "apt", SUITE)
        options = Path(scratch) / "options"
        options.touch(mode=0o600)
        options.write_text(machine_acquire())
        mode = "root" if os.geteuid() == 0 else "unshare"
        try:
            run(
                ["mmdebstrap", f"--mode={mode}", "--variant=extract", "--include=?essential",
                 f"--include={','.join(PACKAGES)}", f"--aptopt={options}", "--skip=check/qemu", SUITE, partial,
                 apt.folder / "sources.list"],
                timeout=1800,
            )  # fmt: skip
            for path, text in MADE.items():
                (partial / path).write_text(text)
            bundle = partial / "etc/ssl/certs/ca-certificates.crt"
            bundle.write_text("".join(file.read_text() for file in partial.glob("usr/share/ca-certificates/**/*.crt")))
            partial.rename(root)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    return root
