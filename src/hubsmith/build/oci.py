"""Archives of container images: an OCI image layout with the ``manifest.json`` of `docker save`.

`docker load`, `podman load` and skopeo accept such a file. The layers are not compressed, because the archive is stored
in a compressed root, and engines unpack it anyway.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hubsmith import files

TYPES = "application/vnd.oci.image"
#: Tag of the loaded image. It is the same in every version, because a machine has only one.
TAG = "bundled"


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file in OCI's notation."""
    return f"sha256:{files.sha256(path)}"


def write(target: Path, name: str, layers: Sequence[tuple[str, Path]], container: Mapping[str, Any], epoch: int) -> str:
    """Write the archive of a container image.

    :param name: name of the image without a tag.
    :param layers: description and tar of each layer, the lowest first.
    :param container: `[container]` table of the definition.
    :param epoch: timestamp of all entries (seconds since 1970).
    :returns: digest of the image's manifest.
    """
    digests = [digest_of(path) for _, path in layers]
    config = _config(name, dict(zip((what for what, _ in layers), digests, strict=True)), container, epoch)
    config_blob = _descriptor("config.v1+json", config)
    manifest = _json({
        "schemaVersion": 2, "mediaType": f"{TYPES}.manifest.v1+json", "config": config_blob,
        "layers": [
            {"mediaType": f"{TYPES}.layer.v1.tar", "digest": digest, "size": path.stat().st_size}
            for digest, (_, path) in zip(digests, layers, strict=True)
        ],
    })  # fmt: skip
    manifest_blob = _descriptor("manifest.v1+json", manifest)
    index = {**manifest_blob, "annotations": {"org.opencontainers.image.ref.name": TAG}}
    places = [_place(digest) for digest in digests]
    saved = {"Config": _place(config_blob["digest"]), "RepoTags": [f"{name}:{TAG}"], "Layers": places}
    members: dict[str, bytes | Path] = {
        "oci-layout": _json({"imageLayoutVersion": "1.0.0"}),
        "index.json": _json({"schemaVersion": 2, "mediaType": f"{TYPES}.index.v1+json", "manifests": [index]}),
        "manifest.json": _json([saved]),
        _place(config_blob["digest"]): config,
        _place(manifest_blob["digest"]): manifest,
        **{place: path for place, (_, path) in zip(places, layers, strict=True)},
    }
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as tar:
        for folder in ("blobs", "blobs/sha256"):
            _add(tar, folder, None, epoch)
        for path, content in sorted(members.items()):
            _add(tar, path, content, epoch)
    return str(manifest_blob["digest"])


def _config(name: str, digests: Mapping[str, str], container: Mapping[str, Any], epoch: int) -> bytes:
    """Return the image's configuration (OCI image specification 1.1, config.md)."""
    created = datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return _json({
        "architecture": "amd64", "os": "linux", "created": created,
        "config": {
            "User": container["user"], "WorkingDir": container["workdir"], "Cmd": list(container["command"]),
            "Env": [f"{key}={value}" for key, value in sorted(container["env"].items())],
            "Labels": {"org.opencontainers.image.title": name},
        },
        "rootfs": {"type": "layers", "diff_ids": list(digests.values())},
        "history": [{"created": created, "created_by": f"hubsmith: {what}"} for what in digests],
    })  # fmt: skip


def _json(value: Any) -> bytes:
    return files.canonical(value).encode()


def _descriptor(kind: str, content: bytes) -> dict[str, Any]:
    """Return the OCI descriptor of a blob."""
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    return {"mediaType": f"{TYPES}.{kind}", "digest": digest, "size": len(content)}


def _place(digest: str) -> str:
    """Return the path of a blob in an image layout."""
    return f"blobs/{digest.replace(':', '/')}"


def _add(tar: tarfile.TarFile, path: str, content: bytes | Path | None, epoch: int) -> None:
    member = tarfile.TarInfo(path)
    member.mtime = epoch
    if content is None:
        member.type, member.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(member)
    elif isinstance(content, bytes):
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    else:
        member.size = content.stat().st_size
        with content.open("rb") as stream:
            tar.addfile(member, stream)
