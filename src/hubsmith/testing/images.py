"""Which images the tests are about: those of the tree, found in its definitions.

A test that asks for ``image`` (a disk to boot) or ``output`` (a build's files) runs for every machine image that has
the modules it names with ``@pytest.mark.modules(…)``. For all images but the first it is slow where it boots a machine
or is marked ``one_is_enough``, and it is left out where it is marked ``first_only``.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from hubsmith.definition import Definition, define, image_names
from hubsmith.paths import project_root
from hubsmith.testing.inputs import IMAGE, OUTPUT

#: The image that comes first: it has most of what there is to test.
FIRST = "master"


def pytest_configure(config: pytest.Config) -> None:
    """The markers."""
    config.addinivalue_line("markers", "modules(names): only images that have all of these modules")
    config.addinivalue_line("markers", "one_is_enough: it is about a tool; for all images but the first it is slow")
    config.addinivalue_line("markers", "first_only: it is about what all images share")
    config.addinivalue_line("markers", "container: its images are those of containers")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give the test its images."""
    for fixture in (IMAGE, OUTPUT):
        if fixture not in metafunc.definition._fixtureinfo.name2fixturedefs:
            continue  # not asked for, or a parameter of that name
        test = metafunc.definition
        modules = {name for marker in test.iter_markers("modules") for name in marker.args}
        container = test.get_closest_marker("container") is not None
        first, *others = images(project_root(metafunc.config.rootpath), frozenset(modules), container=container)
        if test.get_closest_marker("first_only"):
            others = []
        slow = [pytest.mark.slow] if fixture == IMAGE or test.get_closest_marker("one_is_enough") else []
        chosen = [first, *(pytest.param(name, marks=slow) for name in others)]
        metafunc.parametrize(fixture, chosen, indirect=True, scope="session")


@cache
def images(root: Path, modules: frozenset[str] = frozenset(), *, container: bool = False) -> tuple[str, ...]:
    """The names of a tree's images; :data:`FIRST` comes first.

    :param modules: that the image must have.
    :param container: those of containers, instead of those of machines.
    """
    found = {name: define(root, name) for name in image_names(root)}
    fitting = [name for name, one in found.items() if _is_container(one) == container and modules <= one.modules.keys()]
    return tuple(sorted(fitting, key=lambda name: (name != FIRST, name)))


def _is_container(definition: Definition) -> bool:
    return definition.image.container is not None
