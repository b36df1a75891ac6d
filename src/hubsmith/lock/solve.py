"""Solve the inputs of images and of the toolchain into locks."""

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
    """Solve each, with one state of the archives for all of them.

    :returns: a lock by name.
    :raises LockError: a solver finds no solution, or an archive or its signature is not good.
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
    # pip and npm work side by side; what they chose is downloaded afterwards, under one bar at a time.
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
