"""Keystone and Glance on loopback, from Debian's packages."""

from __future__ import annotations

import configparser
import io
import shutil
from collections.abc import Mapping
from pathlib import Path

from hubsmith.testing.cloud.namespace import Namespace, Server

PASSWORD = "loopback-only"
KEYSTONE, GLANCE = 5000, 9292
REGION = "RegionOne"
URL = f"http://127.0.0.1:{KEYSTONE}/v3"

ADMIN = {
    "OS_AUTH_URL": URL, "OS_USERNAME": "admin", "OS_PASSWORD": PASSWORD, "OS_PROJECT_NAME": "admin",
    "OS_USER_DOMAIN_NAME": "Default", "OS_PROJECT_DOMAIN_NAME": "Default", "OS_IDENTITY_API_VERSION": "3",
    "OS_REGION_NAME": REGION,
}  # fmt: skip

#: Configuration of each API server. Debian's own starts eight processes.
UWSGI = """[uwsgi]
plugins = python3
master = true
processes = 1
threads = 4
lazy-apps = true
buffer-size = 65535
enable-threads = true
die-on-term = true
need-app = true
thunder-lock = true
add-header = Connection: close
http-auto-chunked = true
http-chunked-input = true
http-raw-body = true
wsgi-manage-chunked-input = true
"""


def ini(content: Mapping[str, Mapping[str, object]]) -> str:
    """Format a configuration file for oslo.config."""
    parser = configparser.RawConfigParser(default_section="")
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_dict(content)
    text = io.StringIO()
    parser.write(text)
    return text.getvalue()


class Services:
    """The servers of a cloud.

    :ivar running: servers by name.
    """

    def __init__(self, space: Namespace) -> None:
        self.space = space
        self.running: dict[str, Server] = {}

    def write(self, name: str, content: Mapping[str, Mapping[str, object]] | str) -> str:
        """Write a configuration file and return its path inside."""
        text = content if isinstance(content, str) else ini(content)
        self.space.run(["sh", "-c", 'mkdir -p "${1%/*}" && cat > "$1"', "sh", f"/etc/cloud/{name}"], stdin=text)
        return f"/etc/cloud/{name}"

    def api(self, name: str, port: int, program: str, env: Mapping[str, str], path: str = "/") -> None:
        """Start an API and wait until it answers."""
        server = self.space.spawn(
            name,
            ["uwsgi_python3", "--ini", self.write("uwsgi.ini", UWSGI), "--http-socket", f"127.0.0.1:{port}",
             "--wsgi-file", program],
            env,
        )  # fmt: skip
        self.running[name] = server
        server.wait(
            self.space.outside(
                ["curl", "--silent", "--output", "/dev/null", "--noproxy", "*", f"http://127.0.0.1:{port}{path}"]
            )
        )

    def database(self, name: str) -> str:
        """Create an SQLite database in WAL mode, so that readers do not block writers, and return its URL."""
        path = f"/var/lib/cloud/{name}.sqlite"
        self.space.run(
            [
                "python3",
                "-c",
                "import sys, sqlite3; sqlite3.connect(sys.argv[1]).execute('PRAGMA journal_mode=WAL')",
                path,
            ]
        )
        return f"sqlite:///{path}"

    def openstack(self, *words: str, env: Mapping[str, str] = ADMIN) -> str:
        """Run the standard client and return its output."""
        return self.space.run(["openstack", *words], env=env)

    def start_keystone(self) -> None:
        """Start the identity service."""
        self.space.run(["mkdir", "-p", "/var/lib/cloud", "/var/log/cloud"])
        conf = self.write(
            "keystone.conf",
            {
                "DEFAULT": {"log_dir": "", "use_stderr": "true"},
                "database": {"connection": self.database("keystone")},
                "token": {"provider": "fernet"},
                "fernet_tokens": {"key_repository": "/var/lib/cloud/fernet"},
                "credential": {"key_repository": "/var/lib/cloud/credential"},
            },
        )
        manage = ["keystone-manage", "--config-file", conf]
        self.space.run([*manage, "db_sync"])
        for what in ("fernet_setup", "credential_setup"):
            self.space.run([*manage, what, "--keystone-user", "root", "--keystone-group", "root"])
        self.space.run(
            [*manage, "bootstrap", "--bootstrap-password", PASSWORD, "--bootstrap-region-id", REGION,
             *(word for kind in ("admin", "internal", "public") for word in (f"--bootstrap-{kind}-url", f"{URL}/"))],
        )  # fmt: skip
        self.api("keystone", KEYSTONE, "/usr/bin/keystone-wsgi-public", {"OS_KEYSTONE_CONFIG_FILES": conf}, "/v3")

    def middleware(self, user: str) -> dict[str, object]:
        """Return a service's configuration for validating tokens."""
        return {
            "www_authenticate_uri": f"{URL}/", "auth_url": f"{URL}/", "auth_type": "password", "username": user,
            "password": PASSWORD, "project_name": "service", "user_domain_name": "Default",
            "project_domain_name": "Default",
        }  # fmt: skip

    def register(self, name: str, kind: str, url: str) -> None:
        """Create a service's account and its entry in the service catalog."""
        self.openstack("project", "create", "--or-show", "service")
        self.openstack("user", "create", "--password", PASSWORD, "--project", "service", name)
        for role in ("admin", "service"):
            self.openstack("role", "add", "--project", "service", "--user", name, role)
        self.openstack("service", "create", "--name", name, kind)
        self.openstack("endpoint", "create", "--region", REGION, kind, "public", url)

    def start_glance(self, **more: Mapping[str, object]) -> None:
        """Start the image service."""
        self.register("glance", "image", f"http://127.0.0.1:{GLANCE}")
        conf = self.write(
            "glance/glance-api.conf",
            {
                "DEFAULT": {"enabled_backends": "file:file", "use_stderr": "true"},
                "database": {"connection": self.database("glance")},
                "glance_store": {"default_backend": "file"},
                "file": {"filesystem_store_datadir": "/var/lib/cloud/images"},
                "os_glance_tasks_store": {"filesystem_store_datadir": "/var/lib/cloud/tasks"},
                "os_glance_staging_store": {"filesystem_store_datadir": "/var/lib/cloud/staging"},
                "keystone_authtoken": self.middleware("glance"),
                "paste_deploy": {"flavor": "keystone", "config_file": "/usr/share/glance-common/glance-api-paste.ini"},
                **more,
            },
        )
        for name in ("images", "tasks", "staging"):
            self.space.run(["mkdir", "-p", f"/var/lib/cloud/{name}"])
        self.space.run(["glance-manage", "--config-file", conf, "db_sync"])
        env = {"OS_GLANCE_CONFIG_DIR": str(Path(conf).parent), "OS_GLANCE_CONFIG_FILES": "glance-api.conf"}
        self.api("glance", GLANCE, "/usr/bin/glance-wsgi-api", env, "/versions")

    def save(self, image: str, file: Path) -> None:
        """Copy the data that Glance has stored for an image."""
        shutil.copyfile(self.space.folder / "upper/var/lib/cloud/images" / image, file)
