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

    :ivar folder: with ``clouds.yaml``, a tree with releases, and keys.
    :ivar name: of the project and of its user.
    :ivar project: its id.
    """

    services: Services
    folder: Path
    name: str
    project: str

    @classmethod
    def new(cls, services: Services, folder: Path) -> Cloud:
        """A project with a user who has application credentials."""
        name = f"p{secrets.token_hex(4)}"
        told = _ask(services, NEW_PROJECT, {}, name=name, password=PASSWORD)
        made = cls(services, folder, name, told["project"])
        made.log_in(**made.credential())
        return made

    def credential(self, expires: str | None = None) -> dict[str, str]:
        """New application credentials.

        :param expires: when (ISO 8601).
        """
        told: dict[str, str] = _ask(self.services, NEW_CREDENTIAL, self.user, expires=expires)
        return told

    @property
    def user(self) -> dict[str, str]:
        """The environment of the project's user."""
        return {"OS_USERNAME": self.name, "OS_PROJECT_NAME": self.name}

    def openstack(self, *words: str) -> str:
        """The standard client, as the project's user."""
        return self.services.openstack(*words, env={**ADMIN, **self.user})

    def log_in(self, id: str, secret: str) -> None:
        """Write ``clouds.yaml`` with application credentials."""
        auth = {"auth_url": URL, "application_credential_id": id, "application_credential_secret": secret}
        self._write({"auth_type": "v3applicationcredential", "auth": auth, "region_name": REGION})

    def by(self, port: int = GLANCE) -> None:
        """Reach Glance by another port."""
        self._write({**self._known, "image_endpoint_override": f"http://127.0.0.1:{port}"})

    def _write(self, cloud: dict[str, Any]) -> None:
        self._known = cloud
        (self.folder / "clouds.yaml").write_text(json.dumps({"clouds": {CLOUD: cloud}}))  # JSON is YAML

    def start(self, *words: str | Path) -> subprocess.Popen[str]:
        """`hubsmith`, in the cloud's network."""
        argv = [sys.executable, "-c", "import sys; from hubsmith.cli import main; sys.exit(main())", *words]
        env = {
            **os.environ, "OS_CLIENT_CONFIG_FILE": str(self.folder / "clouds.yaml"),
            "HUBSMITH_CONFIG": str(self.folder), "HUBSMITH_STATE": str(self.folder / "state"), "no_proxy": "*",
            "COLUMNS": "200",
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
        """The project's images, hidden ones too, as Glance tells."""
        found: list[dict[str, Any]] = _ask(self.services, IMAGES, {}, project=self.project)
        return found


def _ask(services: Services, program: str, env: dict[str, str], **values: str | None) -> Any:
    """What a program prints that has a connection as `cloud`, and `values`."""
    begin = f"import json, openstack\ncloud = openstack.connect()\nvalues = json.loads({json.dumps(values)!r})\n"
    argv = services.space.outside([sys.executable, "-c", begin + program])
    done = subprocess.run(
        list(map(str, argv)), env={**os.environ, **ADMIN, **env, "no_proxy": "*"}, text=True, stdout=subprocess.PIPE,
        check=True,
    )  # fmt: skip
    return json.loads(done.stdout)


NEW_PROJECT = """
name = values["name"]
project = cloud.identity.create_project(name=name)
user = cloud.identity.create_user(name=name, password=values["password"], default_project_id=project.id)
cloud.identity.assign_project_role_to_user(project, user, cloud.identity.find_role("member"))
print(json.dumps({"project": project.id}))
"""
NEW_CREDENTIAL = """
import secrets
more = {"expires_at": values["expires"]} if values["expires"] else {}
made = cloud.identity.create_application_credential(cloud.current_user_id, "c" + secrets.token_hex(4), **more)
print(json.dumps({"id": made.id, "secret": made.secret}))
"""
IMAGES = """
address = f"/images?owner={values['project']}&visibility=all&os_hidden="
print(json.dumps([one for hidden in ("false", "true") for one in cloud.image.get(address + hidden).json()["images"]]))
"""
