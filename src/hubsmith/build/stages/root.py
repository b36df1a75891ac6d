"""Stage `root`: packages, environments and modules joined into the read-only root.

Output: a folder with ``root.erofs`` and ``entries.json`` (every path with type, mode, owner, size and checksum).
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

from hubsmith.build import accounts, rules, units
from hubsmith.build.tree import Addition, Tree, read
from hubsmith.disk import layout

LIBRARY = "usr/lib/hubsmith"
UNIT_FOLDERS = ("usr/lib/systemd/system/", "etc/systemd/system/")
#: The rooms of the Python package that the guest runs, and the single files that they import.
GUEST_ROOMS = ("settings", "guest")
GUEST_FILES = ("__init__.py", "errors.py", "run.py")


def wanted_early(path: str) -> bool:
    """What must be known of the packages before the first entry is written."""
    return path in accounts.FILES or path.startswith(UNIT_FOLDERS)


def module_files(manifest: dict[str, Any], modules: Path, uid: dict[str, int], gid: dict[str, int]) -> list[Addition]:
    """The `files/` trees of the modules, with owners as numbers."""
    found = []
    for file in manifest["files"]:
        source = modules / file["module"] / "files" / file["path"].lstrip("/")
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


def guest_files(manifest: dict[str, Any], modules: Path, package: Path) -> list[Addition]:
    """What the guest's agent reads: its own code, and the definition and templates of each module."""
    found = []
    sources = [package / name for name in GUEST_FILES]
    sources += [file for room in GUEST_ROOMS for file in sorted((package / room).rglob("*")) if file.is_file()]
    for source in sources:
        found.append(Addition(f"{LIBRARY}/python/hubsmith/{source.relative_to(package)}", 0o644, source.read_bytes()))
    for name in manifest["modules"]:
        folder = modules / name
        files = [folder / "module.toml", *sorted(path for path in (folder / "templates").rglob("*") if path.is_file())]
        for source in files:
            found.append(Addition(f"{LIBRARY}/modules/{name}/{source.relative_to(folder)}", 0o644, source.read_bytes()))
    return found


def own_files(manifest: dict[str, Any], manifest_text: bytes) -> list[Addition]:
    """Files that the build makes from the manifest."""
    found = [
        Addition("etc/machine-id", 0o444, b""),  # empty: made at first boot, without the rerun of presets
        Addition("etc/hostname", 0o644, manifest["hostname"].encode() + b"\n"),
        Addition("etc/resolv.conf", 0o777, link="../run/systemd/resolve/stub-resolv.conf"),
        Addition(f"{LIBRARY}/manifest.json", 0o644, manifest_text),
        Addition(f"{LIBRARY}/manifest.sha256", 0o644, hashlib.sha256(manifest_text).hexdigest().encode() + b"\n"),
        Addition(f"{LIBRARY}/min-disk-bytes", 0o644, f"{layout.minimum_bytes(manifest['disk'])}\n".encode()),
        Addition(f"{rules.FACTORY}/roothome", 0o700),
        Addition(f"{rules.FACTORY}/lib/dpkg", 0o777, link=f"/{rules.DPKG}"),
        # Folders that no package brings: mount points (/var itself is state), and the package database's new place.
        *(Addition(path, 0o755) for path in ("var", "home", "srv", "boot/efi", "efi", "usr/lib/sysimage")),
    ]
    for name, text in layout.repart_d(manifest["disk"]).items():
        found.append(Addition(f"usr/lib/repart.d/{name}", 0o644, text.encode()))
    for module, states in manifest["state"].items():
        lines = "".join(f"d {one['path']} {one['mode']} {one['owner']} {one['group']} -\n" for one in states)
        found.append(Addition(f"usr/lib/tmpfiles.d/hubsmith-{module}.conf", 0o644, lines.encode()))
    return found


def unit_links(
    manifest: dict[str, Any], early: dict[str, tuple[str | None, bytes]], files: list[Addition]
) -> list[Addition]:
    """Links that enable and mask the units that the manifest names."""
    texts = {
        Path(path).name: (path, content.decode())
        for path, (link, content) in early.items()
        if path.startswith(UNIT_FOLDERS[0]) and link is None and "/" not in path.removeprefix(UNIT_FOLDERS[0])
    }
    for file in files:
        if file.path.startswith(UNIT_FOLDERS[0]) and file.content is not None:
            texts[Path(file.path).name] = (file.path, file.content.decode())
    made = units.links(manifest["units"]["enable"], manifest["units"]["mask"], texts)
    return [Addition(path, 0o777, link=target) for path, target in made.items()]


def main() -> None:
    """Read the specification, write the folder to ``$out``."""
    spec = json.loads(Path(sys.argv[1]).read_text())
    text = Path(spec["manifest"]).read_bytes()
    manifest = json.loads(text)
    packages, modules = Path(spec["packages"]), Path(spec["modules"])
    epoch = int(manifest["source_date_epoch"])
    out = Path(os.environ["out"])
    out.mkdir()

    early = {
        path: (member.linkname if member.issym() else None, content)
        for path, member, content in read(packages, wanted_early)
    }
    sysusers = {
        file["path"].lstrip("/"): (modules / file["module"] / "files" / file["path"].lstrip("/")).read_bytes()
        for file in manifest["files"] if file["path"].startswith("/usr/lib/sysusers.d/")
    }  # fmt: skip
    tables = accounts.make(Path("/build/accounts"), {path: early[path][1] for path in accounts.FILES}, sysusers, epoch)
    uid, gid = accounts.ids(tables["etc/passwd"]), accounts.ids(tables["etc/group"])
    files = module_files(manifest, modules, uid, gid)

    off = {*manifest["units"]["disable"], *manifest["units"]["mask"]}
    disabled = {
        path
        for path, (link, _) in early.items()
        if path.startswith(UNIT_FOLDERS[1]) and link and Path(path).name in off
    }
    tree = Tree(epoch, lambda path: None if path in disabled else rules.place(path))
    for path, content in tables.items():
        group = gid["shadow"] if path in accounts.SHADOW_MODE else 0
        tree.add(Addition(path, accounts.SHADOW_MODE.get(path, 0o644), content, gid=group))
    folders = [
        Addition(folder["path"].lstrip("/"), int(folder["mode"], 8), uid=uid[folder["owner"]], gid=gid[folder["group"]])
        for folder in manifest["directories"]
    ]
    tree.add(*own_files(manifest, text), *unit_links(manifest, early, files), *folders, *files)
    package = Path(os.environ["PYTHONPATH"]) / "hubsmith"
    tree.add(*guest_files(manifest, modules, package))

    erofs = subprocess.Popen(
        [
            "mkfs.erofs", "--quiet", "-zlz4hc,9", "-C65536", "--workers=2", "--tar=f",
            f"-T{epoch}", "--mkfs-time", f"-U{uuid.uuid5(uuid.NAMESPACE_URL, hashlib.sha256(text).hexdigest())}",
            out / "root.erofs",
        ],
        stdin=subprocess.PIPE,
    )  # fmt: skip
    assert erofs.stdin is not None
    with erofs.stdin:
        tree.write([packages, *map(Path, spec["envs"])], erofs.stdin)
    if erofs.wait() != 0:
        raise SystemExit("mkfs.erofs failed")
    (out / "entries.json").write_text(json.dumps(tree.entries, sort_keys=True, indent=0, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
