"""Create locks: run all solvers for some images and the toolchain."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from hubsmith.archives import JOBS
from hubsmith.archives.apt import apt_root
from hubsmith.archives.cache import Cache
from hubsmith.archives.transfer import download
from hubsmith.lock import busybox, npm, python
from hubsmith.lock.artifacts import artifact_of
from hubsmith.lock.debian import Solver
from hubsmith.lock.inputs import TOOLS, Inputs
from hubsmith.lock.models import Busybox, DebianPackage, Lock, NpmTree, PythonEnv
from hubsmith.threads import results

log = logging.getLogger("hubsmith.lock")


def solve(wanted: Sequence[Inputs]) -> dict[str, Lock]:
    """Solve all inputs against one state of the archives.

    :returns: locks by name.
    :raises LockError: a solver finds no solution, an archive cannot be read, or its signature is invalid.
    """
    locks: dict[str, Lock] = {}
    with ExitStack() as stack:
        solvers: dict[str, Solver] = {}
        for inputs in wanted:
            if inputs.suite not in solvers:
                log.info("lock: read the package indices of %s", inputs.suite)
                solvers[inputs.suite] = Solver(stack.enter_context(apt_root(inputs.suite)))
            log.info("lock: solve %s", inputs.name)
            solver = solvers[inputs.suite]
            where = "nix/tools.toml" if inputs.name == TOOLS else f"images/{inputs.name}.toml"
            debian = solver.solve(inputs.debian, bootable=inputs.bootable, where=where)
            envs, trees = _environments(inputs, debian, where)
            locks[inputs.name] = Lock(
                schema=1,
                image=inputs.name,
                inputs_sha256=inputs.sha256,
                source_date_epoch=solver.apt.date(),
                debian=debian,
                python=envs,
                npm=trees,
                busybox=_busybox(debian) if inputs.name == TOOLS else None,
                inherited=inputs.inherited,
            )
    return locks


def _environments(
    inputs: Inputs, debian: Sequence[DebianPackage], where: str
) -> tuple[dict[str, PythonEnv], dict[str, NpmTree]]:
    # pip and npm run in parallel. Downloads follow afterwards, with one progress bar at a time.
    with ThreadPoolExecutor(4) as pool:
        target = python.target_of(debian, where) if inputs.python else None
        node = npm.node_of(debian, where) if inputs.npm else ""
        envs = {
            env: pool.submit(python.solve, env, asked, target, where) for env, asked in inputs.python.items() if target
        }
        trees = {tree: pool.submit(npm.solve, tree, asked, node, where) for tree, asked in inputs.npm.items()}
        return (
            {
                env: python.complete(inputs.python[env], done)
                for env, done in zip(envs, results(envs.values()), strict=True)
            },
            {
                tree: npm.complete(inputs.npm[tree], done)
                for tree, done in zip(trees, results(trees.values()), strict=True)
            },
        )


def _busybox(packages: Sequence[DebianPackage]) -> Busybox:
    deb = busybox.package(packages)
    cache = Cache()
    if not cache.has(deb.sha256, deb.size):
        download([artifact_of(deb)], cache, JOBS)
    with TemporaryDirectory(prefix=".busybox-", dir=cache.folder) as folder:
        target = Path(folder) / "busybox"
        busybox.extract(cache.path(deb.sha256), target)
        return Busybox(nar_sha256=busybox.nar_sha256(target))
