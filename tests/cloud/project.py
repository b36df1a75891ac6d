"""A project in the cloud, seen by whoever publishes to it."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hubsmith.testing.cloud.services import ADMIN, GLANCE, PASSWORD, REGION, URL, Services

CLOUD = "loopback"


@dataclass
class Cloud:
    """One project.

    :ivar folder: with ``clouds.yaml``, releases and keys.
    """

    services: Services
    folder: Path
    project: str

    @classmethod
    def new(cls, services: Services, folder: Path) -> Cloud:
        """A project with a user who has application credentials."""
        name = f"p{secrets.token_hex(4)}"
        services.openstack("project", "create", name)
        services.openstack("user", "create", "--password", PASSWORD, "--project", name, name)
        services.openstack("role", "add", "--project", name, "--user", name, "member")
        made = cls(services, folder, name)
        told = json.loads(made.openstack("application", "credential", "create", "-f", "json", "publish"))
        made.log_in(told["id"], told["secret"])
        return made

    def openstack(self, *words: str) -> str:
        """The standard client, as the project's user."""
        user = {"OS_USERNAME": self.project, "OS_PROJECT_NAME": self.project}
        return self.services.openstack(*words, env={**ADMIN, **user})

    def log_in(self, number: str, secret: str) -> None:
        """Write ``clouds.yaml`` with application credentials."""
        auth = {"auth_url": URL, "application_credential_id": number, "application_credential_secret": secret}
        cloud: dict[str, Any] = {"auth_type": "v3applicationcredential", "auth": auth, "region_name": REGION}
        self.credential = cloud
        self._write(cloud)

    def by(self, port: int = GLANCE) -> None:
        """Reach Glance by another port."""
        self._write({**self.credential, "image_endpoint_override": f"http://127.0.0.1:{port}/v2"})

    def _write(self, cloud: dict[str, Any]) -> None:
        (self.folder / "clouds.yaml").write_text(json.dumps({"clouds": {CLOUD: cloud}}))  # JSON is YAML

    def start(self, *words: str | Path) -> subprocess.Popen[str]:
        """`hubsmith`, in the cloud's network."""
        argv = [sys.executable, "-c", "import sys; from hubsmith.cli import main; sys.exit(main())", *words]
        env = {
            **os.environ, "OS_CLIENT_CONFIG_FILE": str(self.folder / "clouds.yaml"),
            "HUBSMITH_CONFIG": str(self.folder), "HUBSMITH_STATE": str(self.folder / "state"), "no_proxy": "*",
        }  # fmt: skip
        return subprocess.Popen(
            list(map(str, self.services.space.outside(list(map(str, argv))))), env=env, text=True,
            cwd=self.folder / "tree", stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def hubsmith(self, *words: str | Path, code: int = 0) -> tuple[str, str]:
        """Its output and its errors."""
        process = self.start(*words)
        out, err = process.communicate(timeout=300)
        assert process.returncode == code, err
        return out, err

    def publish(self, release: Path, *more: str, code: int = 0) -> tuple[str, str]:
        """`hubsmith publish` to the cloud."""
        return self.hubsmith("publish", release, "--cloud", CLOUD, *more, code=code)

    def images(self) -> list[dict[str, Any]]:
        """The project's images, hidden ones too, as the standard client tells."""
        rows = [
            row
            for chosen in ("--private", "--community", "--shared", "--public")
            for hidden in ([], ["--hidden"])
            for row in json.loads(self.openstack("image", "list", chosen, *hidden, "-f", "json"))
        ]
        return [json.loads(self.openstack("image", "show", row["ID"], "-f", "json")) for row in rows]
