"""The tree as a whole: linters, and what documents say of the code.

(That the settings reference and the golden manifests are current is tested in `test_settings` and `test_plan`.)
"""

from __future__ import annotations

import ast
import importlib.metadata
import inspect
import ipaddress
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import urllib.parse
from fnmatch import fnmatch
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from hubsmith import errors
from hubsmith.archives.machine import debian_mirrors, pip_config
from hubsmith.cli import VERBS, parse
from hubsmith.run import run

ROOT = Path(__file__).parents[2]
#: Longer files are hard to read in one sitting.
MOST_LINES = 500
#: Files that may be longer, and why.
LONG = {
    "images/*.lock.json": "written by `hubsmith lock`: one entry per package",
    "nix/tools.lock.json": "written by `hubsmith lock`: one entry per package",
    "requirements.lock": "written by uv: all checksums of each package",
}
#: Shell fragments whose variables come from outside: from the derivation (Nix), or from the caller (dracut).
VARIABLES_FROM_OUTSIDE = ("nix/*.sh", "*/module-setup.sh")


def tracked() -> list[Path]:
    """The regular files that git knows, sorted; links (some point into the image) and deleted files left out."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
    paths = [ROOT / name for name in names.split("\0") if name]
    return sorted(path for path in paths if path.is_file() and not path.is_symlink())


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def shebang(path: Path) -> str:
    """The first line, when it names an interpreter."""
    with path.open("rb") as file:
        line = file.readline(200)
    return line.decode(errors="replace") if line.startswith(b"#!") else ""


def judge(*argv: str | Path) -> None:
    """Run a linter in the tree; what it says is the failure."""
    assert shutil.which(argv[0]) or Path(argv[0]).exists(), f"{argv[0]} is not installed: scripts/setup"
    done = subprocess.run([str(word) for word in argv], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.fail(f"{done.stdout}{done.stderr}".strip(), pytrace=False)


def tool(name: str) -> Path:
    """A program of the environment that runs the tests."""
    return Path(sys.executable).with_name(name)


# --- linters


def test_the_linters_are_the_pinned_ones() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = dict(word.split("==") for word in project["optional-dependencies"]["dev"] if "==" in word)
    assert pins.keys() >= {"ruff", "mypy"}
    assert {name: importlib.metadata.version(name) for name in pins} == pins, "hint: scripts/setup"


def test_requirements_lock_has_what_pyproject_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lock = (ROOT / "requirements.lock").read_text()
    locked = dict(re.findall(r"^([a-z0-9.-]+)==(\S+)", lock, re.M))
    for word in (*project["dependencies"], *project["optional-dependencies"]["dev"]):
        wanted = Requirement(word)
        name = canonicalize_name(wanted.name)
        assert locked.get(name, "0") in wanted.specifier, (
            f"{word}: the first lines of requirements.lock say how to renew it"
        )
    entries = re.split(r"^(?=[a-z0-9.-]+==)", lock, flags=re.M)[1:]
    assert all("--hash=sha256:" in entry for entry in entries)


def test_ruff_check() -> None:
    judge(tool("ruff"), "check", "--quiet", ".")


def test_ruff_format() -> None:
    judge(tool("ruff"), "format", "--check", "--quiet", "--diff", ".")


def test_mypy() -> None:
    judge(tool("mypy"), "--no-error-summary")


def test_no_python_escapes_the_linters() -> None:
    """They find Python by its suffix; mypy by what is set, and tests are not checked by it."""
    nameless = {name_of(path) for path in tracked() if path.suffix != ".py" and "python" in shebang(path)}
    assert not nameless, "Python without the suffix: make it a module (docs/contributing/modules.md)"
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]["files"]
    places = [path for pattern in patterns for path in ROOT.glob(pattern)]
    typed = {file for place in places for file in ([place] if place.is_file() else place.rglob("*.py"))}
    ours = {path for path in tracked() if path.suffix == ".py" and name_of(path).startswith(("src/", "modules/"))}
    apart = {path for name in ("check", "settings") for path in ROOT.glob(f"modules/*/{name}.py")}
    assert not {name_of(path) for path in ours - typed - apart}


def test_mypy_of_the_modules_settings(tmp_path: Path) -> None:
    """All have one name, and their folders' names are none of Python: each is judged by a name of its own."""
    files = [path for path in tracked() if path.name == "settings.py" and path.parent.parent.name == "modules"]
    assert ROOT / "modules/jupyterhub/settings.py" in files
    for file in files:
        (tmp_path / f"settings_of_{file.parent.name.replace('-', '_')}.py").symlink_to(file)
    judge(tool("mypy"), "--no-error-summary", "src/hubsmith", *sorted(tmp_path.iterdir()))


def test_shellcheck() -> None:
    found = [path for path in tracked() if path.suffix == ".sh" or re.match(r"#!\S*/(env )?(ba)?sh\b", shebang(path))]
    names = {name_of(path) for path in found}
    assert {"nix/enter.sh", "modules/boot/dracut/90hubsmith/hubsmith-state"} <= names, "scripts are not found any more"
    for path in found:
        shell = [] if shebang(path) else ["--shell=sh"]
        outside = any(fnmatch(name_of(path), pattern) for pattern in VARIABLES_FROM_OUTSIDE)
        judge("shellcheck", *shell, *(["--exclude=SC2154"] if outside else []), path)


def test_nix_parses() -> None:
    found = [path for path in tracked() if path.suffix == ".nix"]
    assert ROOT / "flake.nix" in found
    judge("nix-instantiate", "--parse", *found)


def test_files_are_short() -> None:
    long = {}
    for path in tracked():
        lines = path.read_bytes().count(b"\n")
        if lines > MOST_LINES and not any(fnmatch(name_of(path), pattern) for pattern in LONG):
            long[name_of(path)] = lines
    assert not long, f"longer than {MOST_LINES} lines: divide them, or add them to LONG with the reason"


def registries() -> set[str]:
    """The hosts of the package archives that this machine's clients use: as they are set, and by their own defaults."""
    defaults = "from pip._internal.models.index import PyPI as p; print(p.url, 'https://' + p.file_storage_domain)"
    npm = ["npm", "config", "get", "registry", "--userconfig=/dev/null", "--globalconfig=/no-such-file"]
    config = pip_config()
    addresses = [
        *run([sys.executable, "-c", defaults]).stdout.split(),
        *run(npm, cwd=Path("/"), env={"npm_config_registry": ""}).stdout.split(),
        *run(["npm", "config", "get", "registry"]).stdout.split(),
        config.index_url,
        *config.extra_index_urls,
        *debian_mirrors().values(),
    ]
    hosts = {urllib.parse.urlsplit(address).hostname or "" for address in addresses}
    return {host for host in hosts if "." in host and not _is_address(host)}


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def test_no_file_names_a_registry() -> None:
    """Where packages come from is the machine's own configuration, never ours."""
    hosts = registries()
    assert len(hosts) >= 3, f"the clients' registries are not found any more: {hosts}"
    named = {
        f"{name_of(path)}: {host}"
        for path in tracked()
        for content in [path.read_bytes().lower()]
        for host in hosts
        if host.encode() in content
    }
    assert not named


# --- rooms

#: What the rooms of the package may import of each other; what lies beside them is for all.
ROOMS: dict[str, set[str]] = {
    "archives": set(), "definition": {"settings"}, "disk": set(), "settings": set(), "vm": set(), "inspect": set(),
    "guest": {"settings"}, "testing": {"archives", "definition", "vm"}, "deploy": {"definition", "settings", "vm"},
    "lock": {"archives", "definition"}, "plan": {"definition", "guest", "lock", "settings"},
    "fetch": {"archives", "lock"}, "build": {"archives", "disk", "fetch", "lock", "plan"},
    "release": {"inspect", "plan"}, "catalog": {"release"},
}  # fmt: skip
#: Nobody imports these, which may import anything.
TOPS = {"cli", "bench"}


def imported(path: Path) -> set[str]:
    """The rooms and modules of the package that a file imports."""
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [one.name for one in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [f"{node.module}.{one.name}" for one in node.names]
    return {name.split(".")[1] for name in names if name.startswith("hubsmith.")}


def test_rooms_import_in_one_direction() -> None:
    package = ROOT / "src/hubsmith"
    assert ROOMS.keys() | TOPS == {path.parent.name for path in package.glob("*/__init__.py")}
    wrong = {
        f"{name_of(path)}: {other}"
        for room, may in ROOMS.items()
        for path in (package / room).rglob("*.py")
        for other in (imported(path) & (ROOMS.keys() | TOPS)) - may - {room}
    }
    assert not wrong


# --- documents


def documents() -> dict[str, str]:
    """Every Markdown file of the tree."""
    return {name_of(path): path.read_text(encoding="utf-8") for path in tracked() if path.suffix == ".md"}


def prose(text: str) -> str:
    """A document without its code blocks."""
    return re.sub(r"^(```|~~~).*?^\1\s*$", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(text: str) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ +(.+?) *#*$", prose(text), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_links_of_documents_resolve() -> None:
    texts, broken = documents(), []
    assert "README.md" in texts
    for name, text in texts.items():
        for target in re.findall(r"\]\(<?([^)>\s]+)", prose(text)):
            if re.match(r"[a-z]+:", target):
                continue
            path, _, anchor = target.partition("#")
            file = ((ROOT / name).parent / path).resolve() if path else ROOT / name
            if not file.exists():
                broken.append(f"{name}: {target}")
            elif anchor and anchor not in anchors(file.read_text(encoding="utf-8")):
                broken.append(f"{name}: {target} (no such heading)")
    assert not broken


def test_paths_in_documents_exist() -> None:
    """A path of the tree in `backticks` is there; one with a placeholder (`<name>`, `NAME`, `…`) is left out."""
    tops = "|".join(("src", "nix", "images", "modules", "hosts", "tests", "scripts", "docs"))
    gone = []
    for name, text in documents().items():
        for path in re.findall(rf"`((?:{tops})/[\w./*-]+)[^`\n]*`", prose(text)):
            if not re.search(r"[A-Z]{3,}|/$", path.replace("README", "")) and not list(ROOT.glob(path.rstrip("."))):
                gone.append(f"{name}: {path}")
    assert not gone


def test_commands_in_documents_are_understood() -> None:
    """Every line `hubsmith …` of a code block is what the command line takes; elsewhere its verb at least exists."""
    in_the_appliance = {"apply", "servers", "status"}
    wrong = []
    for name, text in documents().items():
        for verb in re.findall(r"`(?:sudo )?hubsmith ([a-z][a-z-]*)[^`\n]*`", text):
            if verb not in {*VERBS, *in_the_appliance}:
                wrong.append(f"{name}: hubsmith {verb}")
        for block in re.findall(r"^```(?:sh|console|text)?\n(.*?)^```", text, re.M | re.S):
            for line in re.findall(r"^(?:\$ )?hubsmith ([^\n]+)$", block, flags=re.MULTILINE):
                words = shlex.split(line, comments=True)
                try:
                    if words[0] not in in_the_appliance:
                        parse(words)
                except SystemExit:
                    wrong.append(f"{name}: hubsmith {line}")
    assert not wrong


def test_every_exit_code_is_documented() -> None:
    text = (ROOT / "docs/operators/exit-codes.md").read_text()
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", text, flags=re.MULTILINE)}
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.HubsmithError)]
    assert {kind.exit_code for kind in kinds} <= documented
