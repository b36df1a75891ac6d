"""The Python packages of the modules: what they are called, what they import, and how their programs are started."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

from hubsmith import code

ROOT = Path(__file__).parents[2]
MODULES = ROOT / "modules"
PYTHON = "files/usr/lib/hubsmith/python"
#: The parts of hubsmith's own package that are in an image.
GUEST = {".".join(file.removesuffix(".py").split("/")[:2]) for file in code.guest_files(ROOT / "src")}


def topics() -> list[str]:
    """The modules that bring Python."""
    found = sorted(path.parents[4].name for path in MODULES.glob(f"*/{PYTHON}"))
    assert {"accounts", "spawner-swarm"} <= set(found), "the packages are not found any more"
    return found


def package_of(topic: str) -> str:
    return f"hubsmith_{topic.replace('-', '_')}"


def required(topic: str) -> set[str]:
    """A module and all that it requires."""
    found, new = set[str](), {topic}
    while new:
        found |= new
        tables = [tomllib.loads((MODULES / one / "module.toml").read_text()) for one in new]
        new = {name for table in tables for name in table["module"].get("requires", ())} - found
    return found


def imports(file: Path) -> set[str]:
    """What a file imports of hubsmith, each as ``package.module``."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {".".join(one.name.split(".")[:2]) for one in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{file}: a relative import"
            found |= {".".join(f"{node.module}.{one.name}".split(".")[:2]) for one in node.names}
    return {name for name in found if name.startswith("hubsmith")}


def test_each_module_has_one_package_of_its_own_name() -> None:
    for topic in topics():
        folder = MODULES / topic / PYTHON
        assert [path.name for path in folder.iterdir() if path.name != "__pycache__"] == [package_of(topic)]
        assert (folder / package_of(topic) / "__init__.py").is_file(), "mypy needs it to know the package's name"


def test_imports_are_in_every_image_that_has_the_module() -> None:
    wrong = set()
    for topic in topics():
        packages = {package_of(one) for one in required(topic)}
        for file in (MODULES / topic / "files").rglob("*.py"):
            wrong |= {
                f"{file.relative_to(ROOT)}: {name}"
                for name in imports(file)
                if name not in GUEST and name.partition(".")[0] not in packages
            }
    assert not wrong, "an import of what neither the guest nor a required module brings"


def test_programs_that_are_started_by_name_are_there() -> None:
    """Every ``python3 -m hubsmith…`` of a hook, a status item, a command or a unit."""
    started = []
    for file in sorted(path for path in MODULES.glob("*/files/**/*") if path.is_file() and path.suffix != ".pyc"):
        topic = file.relative_to(MODULES).parts[0]
        names = re.findall(r"/usr/bin/python3 -I(?: -B)? -m (hubsmith\S*)", file.read_text(errors="replace"))
        for name in names:
            places = [ROOT / "src", *(MODULES / one / PYTHON for one in required(topic))]
            found = [path for place in places if (path := place / f"{name.replace('.', '/')}.py").is_file()]
            assert found, f"{file.relative_to(ROOT)}: there is no {name}"
            is_program = '\nif __name__ == "__main__":\n' in found[0].read_text()
            assert is_program, f"{found[0].relative_to(ROOT)}: does nothing when it is started"
            started.append(name)
    assert {"hubsmith.guest.main", "hubsmith_accounts.apply", "hubsmith_swarm_worker.worker"} <= set(started)


def test_the_path_of_python_is_set_in_one_place() -> None:
    """By the ``.pth`` files of the environments, never by a program."""
    files = [*(ROOT / "src").rglob("*.py"), *MODULES.rglob("*.py")]
    assert not {str(file.relative_to(ROOT)) for file in files if "sys.path" in file.read_text()}
