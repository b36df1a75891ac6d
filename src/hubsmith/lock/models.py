"""Models of a lock file. No field holds a host name: the path of an artifact is relative to its archive."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DebianPackage(_Frozen):
    """One `.deb`; `path` is relative to the root of its archive.

    All sizes are bytes; the installed one is the archive's own estimate (Debian policy, section 5.6.20).
    """

    name: str
    version: str
    arch: Literal["amd64", "all"]
    archive: Literal["debian", "debian-security"]
    path: str
    size: int
    sha256: Sha256
    installed_size: int
    essential: bool
    priority: str


class Wheel(_Frozen):
    """One wheel, found in the Python package index by project name and file name."""

    name: str
    version: str
    file: str
    size: int
    installed_size: int
    sha256: Sha256


class PythonEnv(_Frozen):
    """One virtual environment, `/opt/<name>`."""

    requirements: list[str]
    wheels: list[Wheel]


class NpmPackage(_Frozen):
    """One package of an npm tree. `location` is relative to the tree, `path` to the registry."""

    name: str
    version: str
    location: str
    path: str
    size: int
    installed_size: int
    sha256: Sha256
    bin: dict[str, str]


class NpmTree(_Frozen):
    """One npm tree, `/opt/<name>`."""

    requirements: list[str]
    packages: list[NpmPackage]


class Busybox(_Frozen):
    """The busybox that bootstraps the toolchain: SHA-256 (hex) of the Nix archive of a folder with `bin/busybox`."""

    nar_sha256: Sha256


class Inherited(_Frozen):
    """What Nix has to know of an image that extends another one.

    It is in the lock so that only Python resolves `extends`; `nix/image.nix` reads the same of any other image from
    its definition.
    """

    #: The images that it extends, the nearest first.
    bases: list[str]
    suite: str
    #: The container images that it brings.
    containers: list[str]
    #: Whether it is a container image itself.
    container: bool


class Lock(_Frozen):
    """Lock of an image, or of the toolchain (then `image` is `tools` and `busybox` is set)."""

    #: Version of the format, increased if old locks can no longer be read.
    schema_: Literal[1] = Field(default=1, alias="schema")
    image: str
    inputs_sha256: Sha256
    #: Newest date among the archives' signed Release files, in seconds since 1970.
    source_date_epoch: int
    debian: list[DebianPackage]
    python: dict[str, PythonEnv]
    npm: dict[str, NpmTree]
    busybox: Busybox | None = None
    inherited: Inherited | None = None
