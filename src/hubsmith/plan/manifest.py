"""The manifest of an image: all its inputs with checksums, as one canonical JSON document."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from hubsmith import code, files
from hubsmith.definition import Definition
from hubsmith.definition.models import Module, Ownership
from hubsmith.definition.resolve import files_of
from hubsmith.lock.models import Lock

SCHEMA = 1

#: Files of a module's folder that are not part of the image.
_NOT_SOURCES = ("check.py", "README.md")


def make(
    definition: Definition, lock: Lock, *, lock_sha256: str, tools_sha256: str | None = None, refreshed: bool = False,
    containers: Mapping[str, str] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Make the manifest of an image.

    :param lock: lock made from this definition.
    :param lock_sha256: SHA-256 of the lock file.
    :param tools_sha256: SHA-256 of the toolchain's lock file.
    :param refreshed: whether the lock is a refreshed one, not the committed one.
    :param containers: container images in the image, with the checksums of their manifests.
    :returns: plain data that depends on the inputs only. :func:`dumps` returns its canonical text.
    """
    image = definition.image
    modules = definition.modules
    # A container image has its modules' files, but no units, templates, state, ports or settings.
    running = {} if image.container else modules
    return {
        "schema": SCHEMA,
        "image": definition.name,
        "summary": image.image.summary,
        "suite": image.image.suite,
        **_kind(definition),
        "containers": dict(containers or {}),
        "source_date_epoch": lock.source_date_epoch,
        "lock": {"sha256": lock_sha256, "refreshed": refreshed, "tools_sha256": tools_sha256},
        "code": _code(definition, lock),
        "modules": list(modules),
        "sources": {name: _sources_sha256(definition.root / "modules" / name) for name in running},
        "debian": [package.model_dump() for package in lock.debian],
        "python": {env: content.model_dump() for env, content in lock.python.items()},
        "npm": {tree: content.model_dump() for tree, content in lock.npm.items()},
        "files": sorted(_files(definition), key=lambda file: str(file["path"])),
        "directories": sorted(_directories(definition), key=lambda folder: str(folder["path"])),
        "templates": sorted(
            _templates(definition.root, running), key=lambda template: (template["target"], template["when"])
        ),
        "units": {
            fate: sorted({unit for module in running.values() for unit in getattr(module.units, fate)})
            for fate in ("enable", "disable", "mask")
        },
        "state": {name: [one.model_dump() for one in module.state] for name, module in running.items() if module.state},
        "ports": [
            {**port.model_dump(), "module": name} for name, module in sorted(running.items()) for port in module.ports
        ],
        "settings": {name: sorted(module.settings.reads) for name, module in running.items() if module.settings.reads},
    }


def _kind(definition: Definition) -> dict[str, Any]:
    """Return the keys that only machine images have, or only container images."""
    image = definition.image
    if image.container is not None:
        return {"container": image.container.model_dump(mode="json")}
    return {
        "hostname": image.image.hostname,
        "min_ram_mb": image.image.min_ram_mb,
        "disk": image.disk.model_dump(),
        "kernel": {"cmdline": definition.cmdline},
        "openstack": definition.openstack,
    }


def dumps(manifest: dict[str, Any]) -> str:
    """Return a manifest as canonical JSON."""
    return files.canonical(manifest)


def _ownership(own: Ownership | None, mode: str) -> dict[str, str]:
    own = own or Ownership()
    return {"mode": own.mode or mode, "owner": own.owner, "group": own.group}


def _executable(path: Path) -> bool:
    # git and the Nix store keep only this mode bit.
    return bool(path.stat().st_mode & 0o100)


def _files(definition: Definition) -> Iterator[dict[str, Any]]:
    for name, module in definition.modules.items():
        tree = definition.root / "modules" / name / "files"
        for path in files_of(definition.root, name):
            source = tree / path
            entry: dict[str, Any] = {"module": name, "path": f"/{path}"}
            if source.is_symlink():
                yield {**entry, "link": str(source.readlink())}
                continue
            yield {
                **entry,
                **_ownership(module.modes.get(str(path)), "0755" if _executable(source) else "0644"),
                "size": source.stat().st_size,
                "sha256": files.sha256(source),
            }


def _directories(definition: Definition) -> Iterator[dict[str, str]]:
    """Yield the folders of the `files/` trees whose mode or owner a module sets."""
    for name, module in definition.modules.items():
        for path, own in module.modes.items():
            if (definition.root / "modules" / name / "files" / path).is_dir():
                yield {"module": name, "path": f"/{path}", **_ownership(own, "0755")}


def _templates(root: Path, modules: Mapping[str, Module]) -> Iterator[dict[str, Any]]:
    for name, module in modules.items():
        for template in module.templates:
            source = root / "modules" / name / "templates" / template.source
            yield {**template.model_dump(mode="json"), "module": name, "sha256": files.sha256(source)}


def _sources_sha256(folder: Path) -> str:
    """Return one checksum of a module's folder.

    It covers files that are not listed elsewhere, such as included templates and the initrd's configuration.
    """
    return _tree_sha256(
        folder,
        (
            path for path in folder.rglob("*")
            if "__pycache__" not in path.parts and str(path.relative_to(folder)) not in _NOT_SOURCES
        ),
    )  # fmt: skip


def stages(definition: Definition, lock: Lock) -> list[str]:
    """Return the stages that build an image, except `manifest`, whose code only affects the manifest itself."""
    last = ["container"] if definition.image.container else ["base", "initrd", "root", "image"]
    return ["packages", *(["python_env"] if lock.python else []), *(["npm_env"] if lock.npm else []), *last]


def _code(definition: Definition, lock: Lock) -> dict[str, str]:
    """Return the checksums of each stage's code, of the code in the image, and of the build graph."""
    root = definition.root
    source = root / "src"
    parts = {name: code.closure(source, [code.stage_file(name)]) for name in stages(definition, lock)}
    if not definition.image.container:
        parts["guest"] = code.guest_files(source)
    found = {name: _tree_sha256(source, (source / path for path in paths)) for name, paths in parts.items()}
    return {**found, "nix": _tree_sha256(root, [*root.glob("nix/*.nix"), *root.glob("nix/*.sh")])}


def _tree_sha256(root: Path, paths: Iterable[Path]) -> str:
    """Return one checksum of the names, modes and contents of files and links."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        relative = path.relative_to(root)
        if path.is_symlink():
            digest.update(f"link {relative} {path.readlink()}\n".encode())
        elif path.is_file():
            digest.update(f"file {relative} {_executable(path):d} {files.sha256(path)}\n".encode())
    return digest.hexdigest()
