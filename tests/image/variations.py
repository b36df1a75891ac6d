"""Stages built in other surroundings than Nix gives them, to see that none of these reaches the bytes.

Nix's sandbox always shows a builder one uid, one path, one umask and an empty environment. `build` makes the same
sandbox by itself, as root. So it can change what Nix keeps the same, and what Nix cannot: the file system, the order in
which it lists folders, the clock, the number of processors. The inputs come from the Nix store.

    .venv/bin/python tests/image/variations.py master [STAGE…] [--only VARIATION…]

prints the matrix as Markdown.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from hubsmith.build.nix import expression, nix_environment
from hubsmith.run import run

ROOT = Path(__file__).parents[2]
#: Of an image; `tools` is the toolchain, of all.
STAGES = ("tools", "packages", "envs", "manifest", "base", "initrd", "root", "image")
SHUFFLE = "disorderfs --quiet --multi-user=yes --reverse-dirents=no --shuffle-dirents=yes"
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")


@dataclass(frozen=True)
class Variation:
    """What differs from a build by Nix.

    :ivar hash_seed: of an ext4 made for the build; without it scratch and output are in memory (tmpfs).
    :ivar shuffled: every listing of a folder comes in another order (disorderfs), of inputs, scratch and output.
    :ivar clock: an offset, as faketime takes it.
    :ivar uid: the user outside of the sandbox.
    :ivar environment: of the caller.
    """

    name: str
    hash_seed: str | None = None
    shuffled: bool = False
    umask: str = "022"
    clock: str | None = None
    processors: str = "0-1023"
    cores: int = 2
    uid: int = 0
    hostname: str = "localhost"
    environment: Mapping[str, str] = field(default_factory=dict)


LOCALE = {"LC_ALL": "de_DE.UTF-8", "LANG": "tr_TR.UTF-8"}
ZONE = {"TZ": "Pacific/Kiritimati"}
SEEDS = (
    "11111111-2222-3333-4444-555555555555",
    "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",
    "3243f6a8-885a-308d-3131-98a2e0370734",
)
#: Those that cannot be had together with the others.
APART = (
    *(Variation(f"ext4 {seed[:4]}", hash_seed=seed) for seed in SEEDS),
    Variation("user", uid=4711, hostname="another"),
)
ALONE = (
    Variation("tmpfs"),
    Variation("shuffled", shuffled=True),
    Variation("umask 077", umask="077"),
    Variation("locale", environment=LOCALE),
    Variation("time zone", environment=ZONE),
    Variation("clock +400 d", clock="+400d"),
    Variation("1 processor", processors="0", cores=1),
)
#: As reprotest does it: all at once costs as much as one, and the single ones tell which it was. Not with another user:
#: disorderfs opens files with that user's rights, without the capabilities that a stage has in its namespace.
TOGETHER = Variation(
    "together", shuffled=True, umask="077", environment={**LOCALE, **ZONE}, clock="+400d", processors="0", cores=7,
    hostname="another",
)  # fmt: skip


@dataclass(frozen=True)
class Derivation:
    """What Nix would run.

    :ivar closure: every store path that the builder may read.
    :ivar tools: the toolchain.
    :ivar expected: the checksum of the output that Nix has made (SHA-256 of its NAR).
    """

    name: str
    builder: str
    args: tuple[str, ...]
    env: Mapping[str, str]
    out: Path
    closure: tuple[Path, ...]
    tools: Path
    expected: str


def derivations(root: Path, image: str, stages: Iterable[str], *, refreshed: bool = False) -> Iterator[Derivation]:
    """The derivations of stages, built by Nix where they are not; `tools` is the toolchain."""
    with expression(root, image, refreshed=refreshed) as arguments:
        names = ["root" if stage == "tools" else f"stages.{image}.{stage}" for stage in stages]
        attributes = [word for name in names for word in ("--attr", name)]
        environment = nix_environment()
        run(["nix-build", *arguments, *attributes, "--no-out-link"], env=environment, timeout=1800)
        paths = run(["nix-instantiate", *arguments, *attributes], env=environment).stdout.split()
        told = json.loads(run(["nix", "show-derivation", *paths], env=environment).stdout)
        (tools,) = run(
            ["nix-build", *arguments, "--attr", "root", "--no-out-link"], env=environment, timeout=1800
        ).stdout.split()
    for path in paths:
        one = told[path]
        inputs = list(one["inputSrcs"])
        for drv, outputs in one["inputDrvs"].items():
            assert outputs == ["out"]
            inputs += run(["nix-store", "--query", "--outputs", drv]).stdout.split()
        closure = run(["nix-store", "--query", "--requisites", *inputs]).stdout.split()
        out = Path(one["outputs"]["out"]["path"])
        expected = run(["nix-store", "--query", "--hash", out]).stdout.strip().removeprefix("sha256:")
        yield Derivation(
            one["env"]["name"],
            one["builder"],
            tuple(one["args"]),
            one["env"],
            out,
            tuple(map(Path, closure)),
            Path(tools),
            expected,
        )


def build(derivation: Derivation, variation: Variation, keep: Path | None = None) -> str:
    """Build it; returns the checksum of the output, in Nix's form.

    :param keep: where a copy of an output goes that differs from what Nix has made.
    """
    with TemporaryDirectory(prefix="variation-", dir=ROOT / "out") as folder:
        scratch = Path(folder)
        script = scratch / "build.sh"
        script.write_text("\n".join(_script(derivation, variation, scratch, keep)) + "\n")
        # All mounts and processes are gone with the namespaces.
        told = run(
            ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-eu", script], timeout=1800
        ).stdout
        return told.split()[-1]


def _script(derivation: Derivation, variation: Variation, scratch: Path, keep: Path | None) -> Iterator[str]:
    """The lines of a shell program that builds it and prints the checksum last."""
    room, inputs, tools = scratch / "room", Path("/nix/store"), derivation.tools
    loader = f"{tools}/usr/lib64/ld-linux-x86-64.so.2 --library-path {tools}/usr/lib/x86_64-linux-gnu"
    yield f"mkdir {room} {scratch}/shuffled {scratch}/store {scratch}/overlay {scratch}/tools"
    if variation.hash_seed:
        yield f"truncate -s 16G {scratch}/disk"
        yield f"mkfs.ext4 -q -E hash_seed={variation.hash_seed} {scratch}/disk && mount -o loop {scratch}/disk {room}"
    else:
        yield f"mount -t tmpfs -o size=12G,mode=755 none {room}"
    if variation.shuffled:
        yield f"{SHUFFLE} {room} {scratch}/shuffled && {SHUFFLE} /nix/store {scratch}/store"
        room, inputs = scratch / "shuffled", scratch / "store"
    yield f"mkdir {room}/store {room}/build"
    binds = [word for path in derivation.closure for word in ("--ro-bind", inputs / path.name, path)]
    if variation.clock and tools in derivation.closure:
        # The stages clear their environment: the loader's own list reaches every program of the toolchain.
        upper = scratch / "overlay"
        yield f"mount -t tmpfs none {upper} && mkdir -p {upper}/up/etc {upper}/work"
        yield f"cp {FAKETIME} {upper}/up/faketime.so && echo /faketime.so > {upper}/up/etc/ld.so.preload"
        yield f"echo '{variation.clock}' > {upper}/up/etc/faketimerc"
        layers = f"lowerdir={inputs / tools.name},upperdir={upper}/up,workdir={upper}/work"
        yield f"mount -t overlay -o {layers} none {scratch}/tools"
        # libfaketime would move the times of files, too, which say nothing of the clock.
        enter = derivation.args[1]
        yield f"sed 's/--clearenv/& --setenv NO_FAKE_STAT 1/' {enter} > {scratch}/enter.sh"
        binds += ["--ro-bind", scratch / "tools", tools, "--ro-bind", scratch / "enter.sh", enter]
    environment = {
        **derivation.env, "out": str(derivation.out), "NIX_BUILD_TOP": "/build", "TMPDIR": "/build",
        "NIX_STORE": "/nix/store", "PATH": "/path-not-set", "HOME": "/homeless-shelter",
        "NIX_BUILD_CORES": str(variation.cores), **variation.environment,
    }  # fmt: skip
    for name in derivation.env.get("passAsFile", "").split():
        (scratch / name).write_text(environment.pop(name))
        yield f"cp {scratch / name} {room}/build/.attr-{name}"
        environment[f"{name}Path"] = f"/build/.attr-{name}"
    yield f"chown -R {variation.uid} {room}/store {room}/build && chmod 755 {scratch} && umask {variation.umask}"
    arguments = [
        "--unshare-user", "--unshare-net", "--unshare-uts", "--hostname", variation.hostname,
        "--uid", "1000", "--gid", "100", "--dev", "/dev", "--dev-bind", "/proc", "/proc", "--tmpfs", "/tmp",
        "--bind", f"{room}/store", "/nix/store", *binds, "--bind", f"{room}/build", "/build", "--chdir", "/build",
        "--clearenv",
    ]  # fmt: skip
    arguments += [word for name, value in environment.items() for word in ("--setenv", name, value)]
    (scratch / "arguments").write_text("\0".join(map(str, arguments)))
    lowered = f"setpriv --reuid {variation.uid} --regid {variation.uid} --clear-groups" if variation.uid else ""
    program = shlex.join([derivation.builder, *derivation.args])
    sandbox = f"{lowered} {loader} {tools}/usr/bin/bwrap --args 9 {program}"
    yield f"taskset --cpu-list {variation.processors} {sandbox} 9< {scratch}/arguments >&2"
    out = room / "store" / derivation.out.name
    yield f"sum=$(nix-hash --type sha256 --base32 {out})"
    if keep:
        yield f'[ "$sum" = {derivation.expected} ] || cp -r {out} {keep}'
    yield 'echo "$sum"'


def main() -> int:
    """Print the matrix; the exit code is 1 when a checksum differs from Nix's."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("image")
    parser.add_argument("stages", nargs="*", metavar="STAGE")
    parser.add_argument("--only", nargs="+", metavar="VARIATION", default=[], help="names of variations")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep outputs that differ")
    args = parser.parse_args()
    wanted = [one for one in (*ALONE, *APART, TOGETHER) if not args.only or one.name in args.only]
    found = list(derivations(ROOT, args.image, args.stages or STAGES))
    print("| variation |", " | ".join(one.name for one in found), "|")
    print("|---|" + "---|" * len(found))
    print("| Nix |", " | ".join(f"`{one.expected[:8]}`" for one in found), "|", flush=True)
    wrong = False
    for variation in wanted:
        row = []
        for one in found:
            checksum = build(one, variation, args.keep and args.keep / f"{one.name}.{variation.name}".replace(" ", "-"))
            wrong |= checksum != one.expected
            row.append("=" if checksum == one.expected else f"**`{checksum[:8]}`**")
        print(f"| {variation.name} |", " | ".join(row), "|", flush=True)
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
