"""Resolve an image's modules: add required modules, order them, and find conflicts between them."""

from __future__ import annotations

import graphlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from hubsmith.definition.load import image_names, load_image, load_modules, problems_error
from hubsmith.definition.models import Image, Module
from hubsmith.errors import DefinitionError
from hubsmith.words import nearest


@dataclass(frozen=True)
class Definition:
    """An image and its modules, in installation order."""

    root: Path
    image: Image
    modules: Mapping[str, Module]
    #: Names of the images that it extends, the nearest first.
    bases: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Name of the image."""
        return self.image.image.name

    @property
    def debian(self) -> list[str]:
        """Debian packages that the modules request, sorted."""
        return sorted({name for module in self.modules.values() for name in module.packages.debian})

    @property
    def python(self) -> dict[str, list[str]]:
        """Requirements of each virtual environment, merged from all modules and sorted."""
        return _merged(module.packages.python for module in self.modules.values())

    @property
    def npm(self) -> dict[str, list[str]]:
        """Requirements of each npm tree, merged from all modules and sorted."""
        return _merged(module.packages.npm for module in self.modules.values())

    @property
    def cmdline(self) -> list[str]:
        """Kernel arguments: those of the modules, in their order, then those of the image."""
        tables = [module.kernel for module in self.modules.values()] + [self.image.kernel]
        return [argument for table in tables for argument in table.cmdline]

    @property
    def openstack(self) -> dict[str, str]:
        """Glance properties of the published image. The image's own override those of its modules."""
        tables = [module.openstack for module in self.modules.values()] + [self.image.openstack]
        return {name: value for table in tables for name, value in table.items()}


def _merged(tables: Iterable[Mapping[str, tuple[str, ...]]]) -> dict[str, list[str]]:
    merged: dict[str, set[str]] = {}
    for table in tables:
        for env, requirements in table.items():
            merged.setdefault(env, set()).update(requirements)
    return {env: sorted(merged[env]) for env in sorted(merged)}


def define(root: Path, name: str) -> Definition:
    """Load an image and resolve its modules.

    :param root: project tree.
    :raises DefinitionError: a file is invalid, or modules conflict. All conflicts are listed.
    """
    image = load_image(root, name)
    known = load_modules(root)
    order = in_order(image.image.modules, known, where=f"images/{name}.toml")
    modules = {one: known[one] for one in order}
    problems = [*_conflicts(modules), *_clashes(root, modules), *_sources(root, modules)]
    problems += [*_containers(root, image), *_not_left_out(image, modules)]
    if problems:
        raise problems_error(problems, f"images/{name}.toml")
    return Definition(root, image, modules, tuple(_bases(root, image)))


def _bases(root: Path, image: Image) -> Iterator[str]:
    while base := image.image.extends:
        yield base
        image = load_image(root, base)


def _not_left_out(image: Image, modules: Mapping[str, Module]) -> Iterator[str]:
    for name in image.image.without:
        askers = [one for one, module in modules.items() if name in module.module.requires]
        if name in image.image.modules:
            yield f"image.without: {name!r} is in image.modules, too"
        elif askers:
            yield f"image.without: {name!r} cannot be left out: {', '.join(map(repr, askers))} requires it"


def _containers(root: Path, image: Image) -> Iterator[str]:
    names = image_names(root)
    for one in image.image.containers:
        if one not in names:
            yield f"image.containers: there is no image {one!r}; {nearest(one, names)}"
        elif load_image(root, one).container is None:
            yield f"image.containers: {one!r} is an image of machines"


def in_order(wanted: Iterable[str], known: Mapping[str, Module], *, where: str) -> list[str]:
    """Return some modules and all that they require, each after its requirements.

    The order depends only on names and requirements, not on the order of ``wanted``.

    :raises DefinitionError: a module does not exist, or modules require each other in a circle.
    """
    graph: dict[str, tuple[str, ...]] = {}
    problems: list[str] = []
    queue = [(name, "image.modules") for name in wanted]
    while queue:
        name, asker = queue.pop(0)
        if name in graph:
            continue
        if name not in known:
            problems.append(f"{asker}: there is no module {name!r}; {nearest(name, known)}")
            graph[name] = ()
            continue
        graph[name] = known[name].module.requires
        queue += [(one, f"modules/{name}/module.toml: module.requires") for one in graph[name]]
    if problems:
        raise problems_error(problems, where)
    sorter = graphlib.TopologicalSorter(graph)
    try:
        sorter.prepare()
    except graphlib.CycleError as error:
        circle = " -> ".join(reversed(error.args[1]))
        raise DefinitionError(f"modules require each other in a circle: {circle}", where=where) from None
    order: list[str] = []
    ready: list[str] = []
    while sorter.is_active():
        ready = sorted([*ready, *sorter.get_ready()])
        order.append(ready.pop(0))
        sorter.done(order[-1])
    return order


def _conflicts(modules: Mapping[str, Module]) -> list[str]:
    pairs = {
        tuple(sorted((name, other)))
        for name, module in modules.items()
        for other in module.module.conflicts
        if other in modules
    }
    return [f"the modules {one!r} and {two!r} conflict" for one, two in sorted(pairs)]


def files_of(root: Path, module: str) -> list[Path]:
    """Return all files and symbolic links of a module's `files/`, as sorted relative paths.

    Bytecode is left out, which Python writes when tests import a module's package.
    """
    tree = root / "modules" / module / "files"
    return sorted(
        path.relative_to(tree)
        for path in tree.rglob("*")
        if (path.is_symlink() or path.is_file()) and path.parent.name != "__pycache__"
    )


def _clashes(root: Path, modules: Mapping[str, Module]) -> list[str]:
    problems: list[str] = []

    def unique(what: str, of: Callable[[str, Module], Iterable[object]]) -> None:
        owner: dict[object, str] = {}
        for name, module in modules.items():
            for thing in of(name, module):
                if thing in owner:
                    other = owner[thing]
                    by = f"twice by {name!r}" if other == name else f"by the modules {other!r} and {name!r}"
                    problems.append(f"{what} {thing} is brought {by}")
                owner.setdefault(thing, name)

    unique("the file", lambda name, _: (f"/{path}" for path in files_of(root, name)))
    # A target may have one template for good and one for bad settings, because only one of them is rendered at a time.
    for when in ("good", "bad"):
        unique(
            f"the template target (when {when})",
            lambda _, module: (t.target for t in module.templates if t.when in (when, "always")),  # noqa: B023
        )
    unique("the state directory", lambda _, module: (state.path for state in module.state))
    unique("the Glance property", lambda _, module: module.openstack)
    unique("the port", lambda _, module: (f"{port.number}/{port.protocol}" for port in module.ports))
    enabled = {unit: name for name, module in modules.items() for unit in module.units.enable}
    for name, module in modules.items():
        for unit in (*module.units.disable, *module.units.mask):
            if unit in enabled and enabled[unit] != name:
                problems.append(f"{unit} is enabled by {enabled[unit]!r} and disabled or masked by {name!r}")
    return problems


def _sources(root: Path, modules: Mapping[str, Module]) -> list[str]:
    """Return the problems of files that modules name but do not have, or have although they are generated."""
    problems: list[str] = []
    for name, module in modules.items():
        folder = root / "modules" / name
        where = f"modules/{name}/module.toml"
        held = [str(path.relative_to(folder / "templates")) for path in (folder / "templates").rglob("*")]
        for template in module.templates:
            if not (folder / "templates" / template.source).is_file():
                hint = nearest(template.source, held)
                problems.append(f"{where}: templates: there is no templates/{template.source}; {hint}")
        for path in module.modes:
            if not (folder / "files" / path).exists():
                hint = nearest(path, map(str, files_of(root, name)))
                problems.append(f"{where}: modes: there is no files/{path}; {hint}")
        generated = f"usr/lib/tmpfiles.d/hubsmith-{name}.conf"
        if module.state and (folder / "files" / generated).exists():
            problems.append(f"{where}: state: makes /{generated}, which files/{generated} would replace: rename it")
    return problems
