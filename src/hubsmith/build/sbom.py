"""Software bill of materials (SBOM) of an image, in CycloneDX 1.6, made from the manifest alone.

Package URLs use the types `deb`, `pypi` and `npm` of the purl specification.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from hubsmith import files


def _purl(kind: str, name: str, version: str, **qualifiers: str) -> str:
    extra = "&".join(f"{key}={quote(value, safe='')}" for key, value in sorted(qualifiers.items()))
    path = "/".join(quote(part, safe="") for part in name.split("/"))
    return f"pkg:{kind}/{path}@{quote(version, safe='')}" + (f"?{extra}" if extra else "")


def _component(purl: str, package: dict[str, Any], properties: dict[str, set[str]]) -> dict[str, Any]:
    component = {
        "type": "library",
        "bom-ref": purl,
        "name": package["name"],
        "version": package["version"],
        "purl": purl,
        "hashes": [{"alg": "SHA-256", "content": package["sha256"]}],
    }
    listed = [{"name": key, "value": value} for key in sorted(properties) for value in sorted(properties[key])]
    return {**component, "properties": listed} if listed else component


def make(manifest: dict[str, Any]) -> dict[str, Any]:
    """Make the SBOM as plain data, which depends on the manifest only.

    :param manifest: see :func:`hubsmith.plan.manifest.make`.
    """
    checksum = files.canonical_sha256(manifest)
    found: dict[str, tuple[dict[str, Any], dict[str, set[str]]]] = {}

    def add(purl: str, package: dict[str, Any], place: str | None = None) -> None:
        _, properties = found.setdefault(purl, (package, {}))
        if place:
            properties.setdefault("hubsmith:environment", set()).add(place)

    for package in manifest["debian"]:
        add(
            _purl(
                "deb", f"debian/{package['name']}", package["version"],
                arch=package["arch"], distro=manifest["suite"],
            ),
            package,
        )  # fmt: skip
    for env, content in manifest["python"].items():
        for package in content["wheels"]:
            add(_purl("pypi", package["name"], package["version"]), package, f"/opt/{env}")
    for tree, content in manifest["npm"].items():
        for package in content["packages"]:
            add(_purl("npm", package["name"], package["version"]), package, f"/opt/{tree}")
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'hubsmith:sbom:{checksum}')}",
        "version": 1,
        "metadata": {
            "timestamp": datetime.fromtimestamp(manifest["source_date_epoch"], UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": {
                "type": "operating-system",
                "bom-ref": f"hubsmith:{manifest['image']}",
                "name": manifest["image"],
                "version": checksum[:12],
                "description": manifest["summary"],
            },
        },
        "components": [_component(purl, *found[purl]) for purl in sorted(found)],
    }
