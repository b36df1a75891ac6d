"""Models of `images/<name>.toml`, `modules/<topic>/module.toml` and `nix/tools.toml`.

All are frozen, and unknown keys are errors.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator


class Strict(BaseModel):
    """Base class of frozen models that reject unknown keys and convert no types."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def _matching(pattern: str, what: str) -> AfterValidator:
    compiled = re.compile(pattern)

    def check(value: str) -> str:
        if not compiled.fullmatch(value):
            raise ValueError(f"{value!r} is not {what}")
        return value

    return AfterValidator(check)


def _clean(value: str) -> str:
    if any(part in ("", ".", "..") for part in value.strip("/").split("/")) or "//" in value or value.endswith("/"):
        raise ValueError(f"{value!r} is not a plain path (no empty part, no '.' and no '..')")
    return value


def _absolute(value: str) -> str:
    if not value.startswith("/"):
        raise ValueError(f"{value!r} is not an absolute path")
    return _clean(value)


def _relative(value: str) -> str:
    if value.startswith("/"):
        raise ValueError(f"{value!r} must be relative (without the leading '/')")
    return _clean(value)


Slug = Annotated[str, _matching(r"[a-z][a-z0-9-]*", "a name of lower-case letters, digits and '-'")]
Line = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True), _matching(r"[^\n]+", "one line")]
AbsolutePath = Annotated[str, AfterValidator(_absolute)]
RelativePath = Annotated[str, AfterValidator(_relative)]
Mode = Annotated[str, _matching(r"[0-7]{4}", 'a mode of four octal digits such as "0644"')]
Account = Annotated[str, _matching(r"[a-z_][a-z0-9_-]{0,31}", "the name of an account or a group")]
#: Debian policy, section 5.6.7.
DebianName = Annotated[str, _matching(r"[a-z0-9][a-z0-9+.-]+", "the name of a Debian package")]
Unit = Annotated[
    str,
    _matching(
        r"[A-Za-z0-9:_.@\\-]+\.(service|socket|timer|target|path|mount|automount|swap|slice|scope|device)",
        "the name of a systemd unit with its suffix",
    ),
]


class ModuleHead(Strict):
    """The `[module]` table."""

    summary: Line
    requires: tuple[Slug, ...] = ()
    conflicts: tuple[Slug, ...] = ()


class Packages(Strict):
    """The `[packages]` table: package names for apt, PEP 508 requirements for pip, `name` or `name@range` for npm."""

    debian: tuple[DebianName, ...] = ()
    python: dict[Slug, tuple[Line, ...]] = Field(default_factory=dict)
    npm: dict[Slug, tuple[Line, ...]] = Field(default_factory=dict)


class Units(Strict):
    """The `[units]` table: units to enable, disable or mask at build time."""

    enable: tuple[Unit, ...] = ()
    disable: tuple[Unit, ...] = ()
    mask: tuple[Unit, ...] = ()

    @model_validator(mode="after")
    def _one_fate(self) -> Units:
        for unit in self.enable:
            if unit in self.disable or unit in self.mask:
                raise ValueError(f"{unit} is both enabled and disabled or masked")
        return self


class Ownership(Strict):
    """Mode and owner of a file, if they are not root:root 0644/0755."""

    mode: Mode | None = None
    owner: Account = "root"
    group: Account = "root"


class State(Strict):
    """A `[[state]]` directory, created by systemd-tmpfiles. With `keep` it is on the data volume, if there is one."""

    path: AbsolutePath
    mode: Mode = "0755"
    owner: Account = "root"
    group: Account = "root"
    keep: bool = False


class Port(Strict):
    """A `[[ports]]` entry: a port on which the module listens.

    `peers` are the machines of `cluster.network`, `metrics` those of `metrics.allow`.
    """

    number: int = Field(ge=1, le=65535)
    protocol: Literal["tcp", "udp"] = "tcp"
    audience: Literal["all", "peers", "metrics", "loopback"] = "loopback"


class Settings(Strict):
    """The `[settings]` table: top-level tables of `settings.toml` that the module reads."""

    reads: tuple[Slug, ...] = ()


class Template(Strict):
    """A `[[templates]]` entry: a file that the guest renders at each apply."""

    source: RelativePath
    target: AbsolutePath
    mode: Mode = "0644"
    owner: Account = "root"
    group: Account = "root"
    when: Literal["good", "bad", "always"] = "good"
    reload: tuple[Unit, ...] = ()
    restart: tuple[Unit, ...] = ()


class Kernel(Strict):
    """The `[kernel]` table of a module or an image. The build appends its own arguments (root hash, state)."""

    cmdline: tuple[Annotated[str, _matching(r"[\x21-\x7e]+", "one kernel argument")], ...] = ()


GlanceProperties = dict[Annotated[str, _matching(r"[a-z][a-z0-9_]*", "a Glance property")], str]


class Module(Strict):
    """A `module.toml` file."""

    module: ModuleHead
    packages: Packages = Packages()
    units: Units = Units()
    modes: dict[RelativePath, Ownership] = Field(default_factory=dict)
    state: tuple[State, ...] = ()
    ports: tuple[Port, ...] = ()
    settings: Settings = Settings()
    templates: tuple[Template, ...] = ()
    kernel: Kernel = Kernel()
    openstack: GlanceProperties = Field(default_factory=dict)


class ImageHead(Strict):
    """The `[image]` table."""

    name: Slug
    summary: Line
    #: Image whose definition this one inherits.
    extends: Slug | None = None
    #: Modules; required unless the image extends another one. Then they are added to the inherited ones.
    modules: tuple[Slug, ...] = ()
    #: Modules of the extended image that are left out.
    without: tuple[Slug, ...] = ()
    suite: Literal["trixie"] = "trixie"
    #: Host name of a machine whose cloud provides none.
    hostname: Slug | None = None
    #: Container images in the image, for its own engine.
    containers: tuple[Slug, ...] = ()
    #: Minimum memory in MiB; Glance's `min_ram`.
    min_ram_mb: int = Field(default=2048, ge=512)


class Disk(Strict):
    """The `[disk]` table. Sizes are in MiB, and `min_gb` is in GiB (Glance's `min_disk`)."""

    min_gb: int = Field(default=20, ge=4)
    #: Size of the ESP. 512 MiB is the smallest FAT32 file system from which OVMF was seen to boot.
    esp_mb: int = Field(default=512, ge=512)
    #: Size of each of the two root slots.
    root_slot_mb: int = Field(default=4096, ge=256)
    #: Size of a slot's dm-verity hash tree: 1/127 of the data with 4 KiB blocks and SHA-256, generously rounded up.
    verity_slot_mb: int = Field(default=64, ge=8)

    @model_validator(mode="after")
    def _fits(self) -> Disk:
        used = self.esp_mb + 2 * (self.root_slot_mb + self.verity_slot_mb)
        if used + 2048 > self.min_gb * 1024:
            raise ValueError(
                f"the ESP and two root slots take {used} MiB: that leaves less than 2048 MiB for state on a disk of "
                f"{self.min_gb} GiB (raise min_gb or lower root_slot_mb)"
            )
        if self.verity_slot_mb * 127 < self.root_slot_mb:
            raise ValueError(f"verity_slot_mb must be at least {-(-self.root_slot_mb // 127)} for this root_slot_mb")
        return self


class Container(Strict):
    """The `[container]` table, which makes the image a container image.

    `user` is `uid:gid`. `env` and `command` are the defaults of a container.
    """

    user: Annotated[str, _matching(r"[1-9][0-9]*:[0-9]+", "a uid and a gid, such as 1000:100")]
    workdir: AbsolutePath
    command: tuple[Line, ...] = Field(min_length=1)
    env: dict[Annotated[str, _matching(r"[A-Z][A-Z0-9_]*", "the name of a variable")], Line] = Field(
        default_factory=dict
    )


class Image(Strict):
    """An `images/<name>.toml` file. `openstack` adds Glance properties, or overrides those of its modules."""

    image: ImageHead
    container: Container | None = None
    disk: Disk = Disk()
    kernel: Kernel = Kernel()
    openstack: GlanceProperties = Field(default_factory=dict)

    @model_validator(mode="after")
    def _whole(self) -> Image:
        if not self.image.modules:
            raise ValueError("image.modules is missing or empty")
        if self.image.without and self.image.extends is None:
            raise ValueError("image.without is for an image with image.extends")
        if self.container is None:
            if self.image.hostname is None:
                raise ValueError("image.hostname is missing")
            return self
        for key in ("containers", "hostname", "min_ram_mb"):
            if key in self.image.model_fields_set:
                raise ValueError(f"image.{key} is for machines, and this is a container image")
        for table in ("disk", "kernel", "openstack"):
            if table in self.model_fields_set:
                raise ValueError(f"[{table}] is for machines, and this is a container image")
        return self


class ToolsHead(Strict):
    """The `[tools]` table."""

    suite: Literal["trixie"] = "trixie"
    debian: tuple[DebianName, ...] = Field(min_length=1)


class Tools(Strict):
    """A `nix/tools.toml` file: the packages of the toolchain."""

    tools: ToolsHead
