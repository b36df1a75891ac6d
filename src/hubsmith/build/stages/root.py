"""Stage `root`: adds the files of the modules and of the build to the packages' read-only root.

Output: a folder with ``root.erofs`` and ``entries.json`` (type, mode, owner, size and checksum of every path).
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

from hubsmith.build import accounts, erofs, rules, tree, units
from hubsmith.build.rules import UNIT_FOLDERS
from hubsmith.build.tree import Addition, Overlay
from hubsmith.disk import layout

LIBRARY = "usr/lib/hubsmith"
#: Path → link target or None, and text (`early.json`).
Early = dict[str, tuple[str | None, str]]
#: Folder of each module, by name.
Modules = dict[str, str]


def module_files(
    manifest: dict[str, Any], modules: Modules, uid: dict[str, int], gid: dict[str, int]
) -> list[Addition]:
    """Return the files of the modules' `files/` trees, with numeric owners."""
    found = []
    for file in manifest["files"]:
        source = Path(modules[file["module"]], "files", file["path"].lstrip("/"))
        path = file["path"].lstrip("/")
        if file.get("link") is not None:
            found.append(Addition(path, 0o777, link=file["link"]))
            continue
        for kind, table in (("owner", uid), ("group", gid)):
            if file[kind] not in table:
                raise SystemExit(f"modules/{file['module']}: /{path} belongs to the unknown {kind} {file[kind]}")
        found.append(
            Addition(path, int(file["mode"], 8), source.read_bytes(), uid=uid[file["owner"]], gid=gid[file["group"]])
        )
    return found


def sysusers_of(manifest: dict[str, Any], modules: Modules) -> dict[str, bytes]:
    """Return the modules' sysusers.d files by path."""
    return {
        file["path"].lstrip("/"): Path(modules[file["module"]], "files", file["path"].lstrip("/")).read_bytes()
        for file in manifest["files"] if file["path"].startswith("/usr/lib/sysusers.d/")
    }  # fmt: skip


def guest_files(manifest: dict[str, Any], modules: Modules, guest: Path) -> list[Addition]:
    """Return the agent's code, and the definition, settings and templates of each module."""
    found = []
    for source in sorted(path for path in guest.rglob("*") if path.is_file()):
        found.append(Addition(f"{LIBRARY}/python/{source.relative_to(guest)}", 0o644, source.read_bytes()))
    for name in manifest["modules"]:
        folder = Path(modules[name])
        files = [folder / "module.toml", *sorted(path for path in (folder / "templates").rglob("*") if path.is_file())]
        files += folder.glob("settings.py")
        for source in files:
            found.append(Addition(f"{LIBRARY}/modules/{name}/{source.relative_to(folder)}", 0o644, source.read_bytes()))
    return found


def own_files(manifest: dict[str, Any], manifest_text: bytes) -> list[Addition]:
    """Return the files that the build generates from the manifest."""
    found = [
        Addition("etc/machine-id", 0o444, b""),  # empty: created at first boot, without presets
        Addition("etc/hostname", 0o644, manifest["hostname"].encode() + b"\n"),
        Addition("etc/resolv.conf", 0o777, link="../run/systemd/resolve/stub-resolv.conf"),
        Addition(f"{LIBRARY}/manifest.json", 0o644, manifest_text),
        Addition(f"{LIBRARY}/manifest.sha256", 0o644, hashlib.sha256(manifest_text).hexdigest().encode() + b"\n"),
        Addition(f"{LIBRARY}/min-disk-bytes", 0o644, f"{layout.minimum_bytes(manifest['disk'])}\n".encode()),
        Addition(f"{rules.FACTORY}/roothome", 0o700),
        Addition(f"{rules.FACTORY}/lib/dpkg", 0o777, link=f"/{rules.DPKG}"),
        # Folders that are in no package: mount points (/var is state), and the package database's new location.
        *(Addition(path, 0o755) for path in ("var", "home", "srv", "boot/efi", "efi", "usr/lib/sysimage")),
    ]
    for name, text in layout.repart_d(manifest["disk"]).items():
        found.append(Addition(f"usr/lib/repart.d/{name}", 0o644, text.encode()))
    for module, states in manifest["state"].items():
        lines = "".join(f"d {one['path']} {one['mode']} {one['owner']} {one['group']} -\n" for one in states)
        found.append(Addition(f"usr/lib/tmpfiles.d/hubsmith-{module}.conf", 0o644, lines.encode()))
    return found


def unit_links(manifest: dict[str, Any], early: Early, files: list[Addition]) -> list[Addition]:
    """Return the links that enable and mask the manifest's units."""
    texts = {
        Path(path).name: (path, content)
        for path, (link, content) in early.items()
        if path.startswith(UNIT_FOLDERS[0]) and link is None and "/" not in path.removeprefix(UNIT_FOLDERS[0])
    }
    for file in files:
        if file.path.startswith(UNIT_FOLDERS[0]) and file.content is not None:
            texts[Path(file.path).name] = (file.path, file.content.decode())
    made = units.links(manifest["units"]["enable"], manifest["units"]["mask"], texts)
    return [Addition(path, 0o777, link=target) for path, target in made.items()]


def compiled(files: list[Addition]) -> list[Addition]:
    """Compile our own Python code below `LIBRARY` for the image's Python, and return the pycs.

    The root is read-only, so the guest cannot cache bytecode. Compiling at each start takes seconds under emulation.
    The pycs have unchecked hashes (PEP 552), like those of the packages and environments.
    """
    scratch = Path("/build/compiled")
    for file in files:
        if file.path.startswith(f"{LIBRARY}/") and file.path.endswith(".py") and file.content is not None:
            source = scratch / file.path
            source.parent.mkdir(parents=True, exist_ok=True)
            source.write_bytes(file.content)
    # In a new process, because what an interpreter did before can affect the marshalled bytes.
    subprocess.run(
        [
            sys.executable, "-m", "compileall", "-q", "-f", "-s", scratch, "-p", "/",
            "--invalidation-mode=unchecked-hash", scratch,
        ],
        check=True, env={key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"},
    )  # fmt: skip
    return [
        Addition(str(path.relative_to(scratch)), 0o644, path.read_bytes()) for path in sorted(scratch.rglob("*.pyc"))
    ]


def main() -> None:
    """Read the specification, write the folder to ``$out``."""
    spec = json.loads(Path(sys.argv[1]).read_text())
    text = Path(spec["manifest"]).read_bytes()
    manifest = json.loads(text)
    base, modules = Path(spec["base"]), spec["modules"]
    epoch = int(manifest["source_date_epoch"])
    out = Path(os.environ["out"])
    out.mkdir()

    below = json.loads((base / "entries.json").read_text())
    python = f"usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    if python not in below:
        raise SystemExit(f"the packages bring no /{python}, for which this stage compiles")
    early: Early = json.loads((base / "early.json").read_text())
    current = {path: early[path][1].encode() for path in rules.ACCOUNTS}
    tables = accounts.make(Path("/build/accounts"), current, sysusers_of(manifest, modules), epoch)
    uid, gid = accounts.ids(tables["etc/passwd"]), accounts.ids(tables["etc/group"])
    files = module_files(manifest, modules, uid, gid)

    off = {*manifest["units"]["disable"], *manifest["units"]["mask"]}
    disabled = {
        path
        for path, (link, _) in early.items()
        if path.startswith(UNIT_FOLDERS[1]) and link and Path(path).name in off
    }
    overlay = Overlay(below, epoch, removed=disabled)
    folders = [
        Addition(folder["path"].lstrip("/"), int(folder["mode"], 8), uid=uid[folder["owner"]], gid=gid[folder["group"]])
        for folder in manifest["directories"]
    ]
    guest = guest_files(manifest, modules, Path(spec["guest"]))
    overlay.add(
        *accounts.additions(tables),
        *own_files(manifest, text),
        *unit_links(manifest, early, files),
        *folders,
        *files,
        *guest,
    )
    overlay.add(*compiled([*files, *guest]))

    subprocess.run(["cp", "--reflink=auto", base / "base.erofs", out / "root.erofs"], check=True)
    (out / "root.erofs").chmod(0o644)
    identity = str(uuid.uuid5(uuid.NAMESPACE_URL, hashlib.sha256(text).hexdigest()))
    tree.dump(erofs.fill(out / "root.erofs", epoch, identity, overlay.write), out / "entries.json")


if __name__ == "__main__":
    main()
