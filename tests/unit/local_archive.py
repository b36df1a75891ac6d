"""Package archives on this machine for tests: real `.deb`s with signed indices, wheels, npm tarballs, and a server of
them that can misbehave on demand."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
import threading
import urllib.parse
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class Server:
    """Serves a folder over HTTP on the loopback interface, with ranges.

    :ivar faults: called for each request with the path and the number of the request for it (from 1); an answer says
        how to misbehave: a status, or how many bytes to send before the connection is cut.
    :ivar log: of all requests: path and the header ``Range``.
    """

    folder: Path
    address: str = ""
    ranges: bool = True
    faults: Callable[[str, int], Fault | None] = lambda path, number: None
    log: list[tuple[str, str | None]] = field(default_factory=list)

    def gets(self, name: str) -> list[str | None]:
        """The ranges of all requests for a file."""
        return [ranged for path, ranged in self.log if path.endswith(name)]


@dataclass
class Fault:
    """How to misbehave."""

    status: int = 0
    cut: int = -1
    #: Waited for before the rest of the body is sent.
    hold: threading.Event | None = None


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """A server of a folder; gone at the end."""
    served = Server(folder)
    mutex = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, *, body: bool) -> None:
            path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
            ranged = self.headers.get("Range")
            with mutex:
                if body:
                    served.log.append((path, ranged))
                number = sum(1 for one, _ in served.log if one == path)
            fault = (served.faults(path, number) if body else None) or Fault()
            file = folder / path.lstrip("/")
            if file.is_dir():
                file = file / "index.html"
            if fault.status or not file.is_file():
                self.send_response(fault.status or 404)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            content = file.read_bytes()
            start = int(re.match(r"bytes=(\d+)-", ranged)[1]) if ranged and served.ranges else 0
            if start and start >= len(content):
                self.send_response(416)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.send_header("Content-Length", str(len(content) - start))
            self.send_header("Last-Modified", formatdate(file.stat().st_mtime, usegmt=True))
            if file.name == "index.html":
                self.send_header("Content-Type", "text/html")
            self.end_headers()
            if not body:
                return
            end = start + fault.cut if fault.cut >= 0 else len(content)
            self.wfile.write(content[start:end])
            if fault.hold:
                self.wfile.flush()
                fault.hold.wait(20)
            if fault.cut >= 0:
                self.close_connection = True
                self.connection.close()

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    # A client that goes away in the middle is what some tests want: no traceback of it.
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    served.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass
class DebianArchive:
    """A pool and the three suites of trixie, signed by a throw-away key. Its packages differ from any other one's."""

    folder: Path
    packages: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.keys = self.folder / "gnupg"
        self.keys.mkdir(parents=True, mode=0o700)
        self.keyring = self.folder / "keyring.gpg"
        self._gpg("--passphrase", "", "--quick-generate-key", "archive@example.org", "ed25519", "sign", "never")
        self._gpg("--output", str(self.keyring), "--export")
        self.salt = os.urandom(8).hex().encode()

    def _gpg(self, *words: str) -> None:
        command = ["gpg", "--homedir", self.keys, "--batch", "--yes", "--pinentry-mode", "loopback", *words]
        subprocess.run(command, check=True, capture_output=True)

    def close(self) -> None:
        """End the key's agent."""
        subprocess.run(["gpgconf", "--homedir", self.keys, "--kill", "all"], check=True, capture_output=True)

    def add(
        self, name: str, version: str, *, suite: str = "trixie", files: dict[str, bytes] | None = None, **fields: str
    ) -> Path:
        """Build a package and put it into a suite.

        :param fields: of its control file, with `_` for `-`: ``Depends``, ``Essential``, ``Priority``…
        """
        tree = self.folder / "build" / f"{name}_{version}"
        for path, content in {f"usr/share/doc/{name}/about": self.salt, **(files or {})}.items():
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).write_bytes(content)
            (tree / path).chmod(0o755)
        control = {
            "Package": name, "Version": version, "Architecture": "amd64", "Maintainer": "Test <test@example.org>",
            "Priority": "optional", "Installed-Size": "12", "Description": name,
            **{key.replace("_", "-"): value for key, value in fields.items()},
        }  # fmt: skip
        (tree / "DEBIAN").mkdir(exist_ok=True)
        (tree / "DEBIAN" / "control").write_text("".join(f"{key}: {value}\n" for key, value in control.items()))
        archive = "debian-security" if suite.endswith("-security") else "debian"
        path = f"pool/main/{name[0]}/{name}/{name}_{version.split(':')[-1]}_{control['Architecture']}.deb"
        target = self.folder / "www" / archive / path
        target.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", tree, target],
            check=True,
            capture_output=True,
        )
        content = target.read_bytes()
        control |= {"Filename": path, "Size": str(len(content)), "SHA256": hashlib.sha256(content).hexdigest()}
        self.packages.append((suite, control))
        return target

    def remove(self, name: str, version: str) -> None:
        """Take a package out of its index and of the pool."""
        for suite, control in list(self.packages):
            if (control["Package"], control["Version"]) == (name, version):
                self.packages.remove((suite, control))
                archive = "debian-security" if suite.endswith("-security") else "debian"
                (self.folder / "www" / archive / control["Filename"]).unlink()

    def publish(self, *, date: int = 1_700_000_000, sign: bool = True) -> None:
        """Write and sign the indices.

        :param date: of the Release files, seconds since 1970; that of the security archive is an hour later.
        """
        for suite in ("trixie", "trixie-updates", "trixie-security"):
            security = suite.endswith("-security")
            folder = self.folder / "www" / ("debian-security" if security else "debian") / "dists" / suite
            index = folder / "main" / "binary-amd64" / "Packages"
            index.parent.mkdir(parents=True, exist_ok=True)
            stanzas = [
                "".join(f"{k}: {v}\n" for k, v in control.items()) for one, control in self.packages if one == suite
            ]
            index.write_text("\n".join(stanzas))
            sha256 = hashlib.sha256(index.read_bytes()).hexdigest()
            release = (
                f"Origin: Debian\nLabel: {'Debian-Security' if security else 'Debian'}\n"
                f"Suite: {suite}\nCodename: {suite}\n"
                f"Date: {formatdate(date + 3600 * security, usegmt=True)}\nArchitectures: amd64\nComponents: main\n"
                f"SHA256:\n {sha256} {index.stat().st_size} main/binary-amd64/Packages\n"
            )
            (folder / "Release").write_text(release)
            (folder / "InRelease").unlink(missing_ok=True)
            if sign:
                self._gpg("--clearsign", "--output", str(folder / "InRelease"), str(folder / "Release"))

    def environment(self, server: Server) -> dict[str, str]:
        """The variables that make hubsmith use this archive."""
        return {
            "HUBSMITH_DEBIAN_MIRROR": f"{server.address}/debian",
            "HUBSMITH_DEBIAN_SECURITY_MIRROR": f"{server.address}/debian-security",
            "HUBSMITH_DEBIAN_KEYRING": str(self.keyring),
            "no_proxy": "127.0.0.1",
        }


def wheel(folder: Path, name: str, version: str, *requires: str, tag: str = "py3-none-any") -> Path:
    """Put a wheel into a simple index below a folder (`simple/<name>/`)."""
    place = folder / "simple" / name
    place.mkdir(parents=True, exist_ok=True)
    info = f"{name}-{version}.dist-info"
    path = place / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as opened:
        needs = "".join(f"Requires-Dist: {one}\n" for one in requires)
        opened.writestr(f"{name}.py", "x" * 1000)
        opened.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}")
        opened.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n")
        opened.writestr(f"{info}/RECORD", "")
    links = []
    for file in sorted(place.glob("*.whl")):
        links.append(f'<a href="{file.name}#sha256={hashlib.sha256(file.read_bytes()).hexdigest()}">{file.name}</a>')
    (place / "index.html").write_text(f"<!DOCTYPE html><html><body>{''.join(links)}</body></html>")
    return path


def npm_package(folder: Path, address: str, name: str, version: str, **manifest: object) -> Path:
    """Put a package into an npm registry below a folder (`<name>/index.html` holds its document)."""
    entry = {"name": name, "version": version, **manifest}
    place = folder / name / "-"
    place.mkdir(parents=True, exist_ok=True)
    path = place / f"{name.rsplit('/', 1)[-1]}-{version}.tgz"
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        text = json.dumps(entry).encode()
        member = tarfile.TarInfo("package/package.json")
        member.size = len(text)
        tar.addfile(member, io.BytesIO(text))
    path.write_bytes(gzip.compress(raw.getvalue(), mtime=0))
    sha512 = base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()
    entry["dist"] = {"tarball": f"{address}/{name}/-/{path.name}", "integrity": f"sha512-{sha512}"}
    document = folder / name / "index.html"
    known = json.loads(document.read_text()) if document.exists() else {"name": name, "versions": {}, "dist-tags": {}}
    known["versions"][version] = entry
    known["dist-tags"]["latest"] = version
    document.write_text(json.dumps(known))
    return path


TINY_TOOLS = '[tools]\nsuite = "trixie"\ndebian = ["busybox-static"]\n'
TINY_IMAGE = '[image]\nname = "tiny"\nsummary = "A tiny image"\nmodules = ["one"]\nhostname = "tiny"\n'
TINY_MODULE = '[module]\nsummary = "One"\n[packages]\ndebian = ["curl"]\n'


def tree(folder: Path, module: str = TINY_MODULE) -> Path:
    """A small project: the image `tiny` with the module `one`, and the toolchain."""
    for name in ("images", "modules/one/files/usr/lib", "modules/one/templates", "nix"):
        (folder / name).mkdir(parents=True)
    (folder / "nix" / "tools.toml").write_text(TINY_TOOLS)
    (folder / "images" / "tiny.toml").write_text(TINY_IMAGE)
    (folder / "modules" / "one" / "module.toml").write_text(module)
    return folder


def add_code(root: Path) -> None:
    """Copy the Python package into a tree: its checksums are in manifests."""
    source = Path(__file__).parents[2] / "src" / "hubsmith"
    shutil.copytree(source, root / "src" / "hubsmith", ignore=shutil.ignore_patterns("__pycache__"))


def small_debian(folder: Path) -> DebianArchive:
    """An archive with what :func:`tree` asks for."""
    archive = DebianArchive(folder)
    archive.add("base-files", "13.8", Essential="yes", Priority="required")
    archive.add("apt", "3.0.4", Priority="important", Depends="libapt")
    archive.add("libapt", "3.0.4+b1")
    archive.add("curl", "8.14.1-2", Depends="libcurl (>= 8)", Recommends="ca-certificates")
    archive.add("libcurl", "1:8.14.1-2")
    archive.add("ca-certificates", "2025")
    archive.add("busybox-static", "1:1.37.0-6", files={"usr/bin/busybox": b"#!/bin/sh\n" + archive.salt})
    archive.publish()
    return archive
