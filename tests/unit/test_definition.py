"""Definitions: what is accepted, and what each mistake is answered with."""

from __future__ import annotations

import itertools
import re
import shutil
import textwrap
import tomllib
from pathlib import Path
from typing import get_args

import pytest
from local_archive import tree
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from hubsmith.definition import Image, define, image_names, load_image, load_modules, load_tools
from hubsmith.definition.load import load
from hubsmith.errors import DefinitionError
from hubsmith.paths import project_root

MODULE = '[module]\nsummary = "x"\n'


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tree(tmp_path)


def module(root: Path, name: str, text: str = "", head: str = "") -> Path:
    folder = root / "modules" / name
    (folder / "templates").mkdir(parents=True, exist_ok=True)
    (folder / "module.toml").write_text(f"{MODULE}{head}\n{text}")
    return folder


def image(root: Path, *modules: str) -> None:
    names = ", ".join(f'"{name}"' for name in modules)
    text = f'[image]\nname = "tiny"\nsummary = "x"\nmodules = [{names}]\nhostname = "tiny"\n'
    (root / "images" / "tiny.toml").write_text(text)


def error(root: Path) -> str:
    with pytest.raises(DefinitionError) as caught:
        define(root, "tiny")
    assert caught.value.exit_code == 3
    return str(caught.value)


def test_every_definition_of_this_project_is_good() -> None:
    root = project_root(Path(__file__))
    load_tools(root)
    assert "master" in image_names(root)
    for name in image_names(root):
        assert define(root, name).modules


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[pakages]", "unknown key 'pakages'; did you mean 'packages'?"),
        ('[packages]\ndebain = ["x"]', "unknown key 'packages.debain'; did you mean 'debian'?"),
        ('[[ports]]\nnumber = 1\nproto = "tcp"', "unknown key 'ports[0].proto'; did you mean 'protocol'?"),
        ('[modes]\n"usr/x" = { mod = "0644" }', "unknown key 'modes.usr/x.mod'; did you mean 'mode'?"),
        (
            "[zzz]",
            "unknown key 'zzz'; known: kernel, modes, module, openstack, packages, ports, settings, state, "
            "templates, units",
        ),
        ('[packages]\ndebian = ["Nginx"]', "packages.debian[0]: 'Nginx' is not the name of a Debian package"),
        ('[packages]\ndebian = "nginx"', "packages.debian: input should be a list"),
        ("[packages]\ndebian = [1]", "packages.debian[0]: input should be a valid string"),
        ("[[ports]]\nnumber = 70000", "ports[0].number: input should be less than or equal to 65535"),
        ('[[ports]]\nnumber = "443"', "ports[0].number: input should be a valid integer"),
        (
            '[[ports]]\nnumber = 1\naudience = "al"',
            "ports[0].audience: input should be 'all', 'peers', 'metrics' or 'loopback'",
        ),
        ('[[state]]\npath = "var/x"', "state[0].path: 'var/x' is not an absolute path"),
        ('[[state]]\npath = "/var/../x"', "state[0].path: '/var/../x' is not a plain path"),
        ('[[state]]\npath = "/x"\nmode = "755"', "state[0].mode: '755' is not a mode of four octal digits"),
        ('[[state]]\nmode = "0755"', "missing key 'state[0].path'"),
        ('[units]\nenable = ["nginx"]', "units.enable[0]: 'nginx' is not the name of a systemd unit with its suffix"),
        ('[units]\nenable = ["x.service"]\nmask = ["x.service"]', "units: x.service is both enabled and disabled"),
        ('[[templates]]\nsource = "/x"\ntarget = "/y"', "templates[0].source: '/x' must be relative"),
        ('[packages.python]\nHub = ["x"]', "packages.python.Hub: 'Hub' is not a name of lower-case letters"),
    ],
)
def test_a_mistake_in_a_module_is_named_with_file_and_key(root: Path, text: str, told: str) -> None:
    module(root, "one", text)
    assert f"modules/one/module.toml: {told}" in error(root)


def test_a_file_that_is_not_toml_is_named_with_the_line(root: Path) -> None:
    (root / "modules" / "one" / "module.toml").write_text("[module\n")
    assert "modules/one/module.toml: not TOML: " in error(root)
    assert "line 1" in error(root)


def test_all_mistakes_of_a_file_come_at_once(root: Path) -> None:
    module(root, "one", '[pakages]\n[[ports]]\nnumber = 0\n[[state]]\npath = "x"')
    told = error(root)
    assert "modules/one/module.toml: 3 problems" in told
    assert told.count("\n  - ") == 3


def test_an_image_that_does_not_exist_is_answered_with_the_nearest(root: Path) -> None:
    with pytest.raises(DefinitionError, match=r"there is no image 'tini'; did you mean 'tiny'\?"):
        load_image(root, "tini")


def test_an_image_is_named_as_its_file(root: Path) -> None:
    (root / "images" / "other.toml").write_text((root / "images" / "tiny.toml").read_text())
    with pytest.raises(DefinitionError, match=r"images/other\.toml: image\.name is 'tiny', the file says 'other'"):
        load_image(root, "other")


def test_a_disk_that_is_too_small_for_its_slots_is_refused(root: Path) -> None:
    with (root / "images" / "tiny.toml").open("a") as stream:
        stream.write("[disk]\nmin_gb = 10\nroot_slot_mb = 4096\n")
    assert "disk: the ESP and two root slots take 8832 MiB: that leaves less than 2048 MiB" in error(root)


def test_a_module_that_does_not_exist_is_answered_with_the_nearest_and_who_asked(root: Path) -> None:
    module(root, "one", head='requires = ["nginxx"]')
    module(root, "nginx")
    image(root, "one", "oen")
    told = error(root)
    assert "modules/one/module.toml: module.requires: there is no module 'nginxx'; did you mean 'nginx'?" in told
    assert "image.modules: there is no module 'oen'; did you mean 'one'?" in told


def test_a_circle_is_shown(root: Path) -> None:
    module(root, "one", head='requires = ["two"]')
    module(root, "two", head='requires = ["three"]')
    module(root, "three", head='requires = ["one"]')
    told = error(root)
    assert "modules require each other in a circle: " in told
    circle = told.rsplit(": ", 1)[1].split(" -> ")
    assert circle[0] == circle[-1]
    assert sorted(circle[1:]) == ["one", "three", "two"]
    following = {"one": "two", "two": "three", "three": "one"}
    assert all(following[one] == two for one, two in itertools.pairwise(circle))


def test_a_conflict_is_reported(root: Path) -> None:
    module(root, "one", head='conflicts = ["two"]')
    module(root, "two")
    image(root, "one", "two")
    assert "the modules 'one' and 'two' conflict" in error(root)


def test_requirements_come_first_and_the_order_does_not_hang_on_the_list(root: Path) -> None:
    module(root, "a", head='requires = ["z"]')
    module(root, "z")
    module(root, "m", head='requires = ["a"]')
    image(root, "one", "m")
    first = list(define(root, "tiny").modules)
    image(root, "m", "a", "one")
    assert first == list(define(root, "tiny").modules) == ["one", "z", "a", "m"]


def test_two_modules_that_bring_one_file(root: Path) -> None:
    for name in ("one", "two"):
        path = module(root, name) / "files" / "etc" / "same.conf"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    image(root, "one", "two")
    assert "the file /etc/same.conf is brought by the modules 'one' and 'two'" in error(root)


def test_two_templates_with_one_target(root: Path) -> None:
    template = '[[templates]]\nsource = "x.j2"\ntarget = "/run/x"\n'
    for name in ("one", "two"):
        (module(root, name, template) / "templates" / "x.j2").write_text("")
    image(root, "one", "two")
    assert "/run/x is brought by the modules 'one' and 'two'" in error(root)
    # One for good settings and one for bad ones are never rendered together.
    module(root, "two", template + 'when = "bad"\n')
    assert list(define(root, "tiny").modules) == ["one", "two"]
    module(root, "two", template + 'when = "always"\n')
    assert "the template target (when good) /run/x" in error(root)


def test_two_modules_that_listen_on_one_port_or_keep_one_state(root: Path) -> None:
    text = '[[ports]]\nnumber = 80\n[[state]]\npath = "/var/lib/x"\n'
    module(root, "one", text)
    module(root, "two", text)
    image(root, "one", "two")
    told = error(root)
    assert "the port 80/tcp is brought by the modules 'one' and 'two'" in told
    assert "the state directory /var/lib/x is brought by the modules 'one' and 'two'" in told


def test_a_unit_that_one_module_enables_and_another_masks(root: Path) -> None:
    module(root, "one", '[units]\nenable = ["x.service"]')
    module(root, "two", '[units]\nmask = ["x.service"]')
    image(root, "one", "two")
    assert "x.service is enabled by 'one' and disabled or masked by 'two'" in error(root)


def test_what_a_module_names_in_its_folder_must_be_there(root: Path) -> None:
    folder = module(root, "one", '[[templates]]\nsource = "hub.j2"\ntarget = "/run/x"\n[modes]\n"usr/lib/y" = {}\n')
    (folder / "templates" / "hubb.j2").write_text("")
    told = error(root)
    assert "there is no templates/hub.j2; did you mean 'hubb.j2'?" in told
    assert "there is no files/usr/lib/y" in told


def test_a_file_does_not_replace_the_one_that_makes_the_state(root: Path) -> None:
    folder = module(root, "one", '[[state]]\npath = "/var/lib/one"\n')
    own = folder / "files/usr/lib/tmpfiles.d/hubsmith-one.conf"
    own.parent.mkdir(parents=True)
    own.write_text("d /var/lib/two\n")
    told = error(root)
    assert "makes /usr/lib/tmpfiles.d/hubsmith-one.conf, which files/usr/lib/tmpfiles.d/hubsmith-one.conf would" in told
    own.rename(own.with_name("hubsmith-two.conf"))
    assert define(root, "tiny").modules.keys() == {"one"}


def test_requirements_of_one_environment_are_merged(root: Path) -> None:
    module(root, "one", '[packages]\ndebian = ["bb", "aa"]\n[packages.python]\nhub = ["jupyterhub", "pamela"]\n')
    module(root, "two", '[packages]\ndebian = ["aa"]\n[packages.python]\nhub = ["idle", "pamela"]\n')
    image(root, "two", "one")
    definition = define(root, "tiny")
    assert definition.python == {"hub": ["idle", "jupyterhub", "pamela"]}
    assert definition.debian == ["aa", "bb"]


def test_models_are_frozen(root: Path) -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_modules(root)["one"].module.summary = "y"  # type: ignore[misc]


# --- an image that extends another one


def extending(root: Path, text: str, name: str = "more") -> None:
    """An image that extends `tiny`, unless its text says otherwise."""
    (root / "images" / f"{name}.toml").write_text(f'[image]\nname = "{name}"\nsummary = "y"\n{text}')


def message(root: Path, name: str = "more") -> str:
    with pytest.raises(DefinitionError) as caught:
        define(root, name)
    return str(caught.value)


def test_an_extending_image_takes_over_everything_and_adds_modules(root: Path) -> None:
    with (root / "images" / "tiny.toml").open("a") as stream:
        stream.write('min_ram_mb = 4096\n[disk]\nroot_slot_mb = 1024\n[openstack]\nhw_a = "1"\nhw_b = "1"\n')
    module(root, "two", head='requires = ["three"]')
    module(root, "three")
    extending(root, 'extends = "tiny"\nmodules = ["two"]\n[disk]\nmin_gb = 10\n[openstack]\nhw_b = "2"\n')
    definition = define(root, "more")
    image = definition.image
    assert list(definition.modules) == ["one", "three", "two"]
    assert definition.bases == ("tiny",)
    assert (image.image.name, image.image.summary, image.image.hostname) == ("more", "y", "tiny")
    # 10 GiB would not hold the default's two slots of 4 GiB: only the result is judged.
    assert (image.image.min_ram_mb, image.disk.root_slot_mb, image.disk.min_gb) == (4096, 1024, 10)
    assert definition.openstack == {"hw_a": "1", "hw_b": "2"}
    assert define(root, "tiny").bases == ()


def test_an_image_may_extend_one_that_extends_another(root: Path) -> None:
    for name in ("two", "three"):
        module(root, name)
    extending(root, 'extends = "tiny"\nmodules = ["two"]\n')
    extending(root, 'extends = "more"\nwithout = ["one"]\nmodules = ["three"]\nhostname = "most"\n', name="most")
    definition = define(root, "most")
    assert list(definition.modules) == ["three", "two"]
    assert definition.bases == ("more", "tiny")
    assert definition.image.image.hostname == "most"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('extends = "tini"', "images/more.toml: image.extends: there is no image 'tini'; did you mean 'tiny'?"),
        ('extends = "more"', "images/more.toml: images extend each other in a circle: more -> more"),
        ("extends = 1", "images/more.toml: image.extends: input should be a valid string"),
        ('hostname = "x"', "images/more.toml: image.modules is missing or empty"),
        ('modules = ["one"]\nwithout = ["two"]', "image.without is for an image with image.extends"),
        (
            'extends = "tiny"\nwithout = ["oen"]',
            "image.without: the modules of 'tiny' do not name 'oen'; did you mean 'one'?",
        ),
        ('extends = "tiny"\nwithout = ["one"]', "images/more.toml: image.modules is missing or empty"),
        (
            'extends = "tiny"\nmodules = ["needy"]\nwithout = ["one"]',
            "image.without: 'one' cannot be left out: 'needy' requires it",
        ),
        (
            'extends = "tiny"\nmodules = ["one"]\nwithout = ["one"]',
            "image.without: 'one' is in image.modules, too",
        ),
        # The numbers are those of the file.
        ('extends = "tiny"\nmodules = ["One"]', "image.modules[0]: 'One' is not a name"),
        ('extends = "tiny"\nmodules = "one"', "image.modules: input should be a list"),
        (
            'extends = "tiny"\n[container]\nuser = "1:1"',
            "[container] makes this a container image, and 'tiny', which it extends, is a machine image",
        ),
        ('extends = "box"\n[disk]\nmin_gb = 20', "[disk] is for machines, and this is a container image"),
        ('extends = "box"\nhostname = "x"', "image.hostname is for machines, and this is a container image"),
        ('extends = "broken"', "images/broken.toml: unknown key 'image.hostnam'; did you mean 'hostname'?"),
    ],
)
def test_a_mistake_in_an_extending_image_is_reported(root: Path, text: str, expected: str) -> None:
    module(root, "needy", head='requires = ["one"]')
    container = '[container]\nuser = "1:1"\nworkdir = "/tmp"\ncommand = ["/bin/sh"]\n'
    extending(root, f'modules = ["one"]\n{container}', name="box")
    extending(root, 'modules = ["one"]\nhostname = "x"\nhostnam = "x"\n', name="broken")
    extending(root, text)
    assert expected in message(root)


def test_a_circle_of_images_is_shown(root: Path) -> None:
    extending(root, 'extends = "b"', name="a")
    extending(root, 'extends = "c"', name="b")
    extending(root, 'extends = "b"', name="c")
    assert "images extend each other in a circle: b -> c -> b" in message(root, "a")


def test_a_container_image_is_extended(root: Path) -> None:
    container = '[container]\nuser = "1:1"\nworkdir = "/tmp"\ncommand = ["/bin/sh"]\nenv = { A = "1", B = "1" }\n'
    extending(root, f'modules = ["one"]\n{container}', name="box")
    extending(root, 'extends = "box"\n[container]\nuser = "2:2"\nenv = { B = "2" }\n')
    container_of = define(root, "more").image.container
    assert container_of is not None
    assert (container_of.user, container_of.workdir, container_of.env) == ("2:2", "/tmp", {"A": "1", "B": "2"})


@pytest.mark.parametrize("text", ['[packages]\ndebian = ["git"]', "[[ports]]\nnumber = 1", "units = 1"])
def test_a_table_of_a_module_in_an_image_is_sent_there(root: Path, text: str) -> None:
    with (root / "images" / "tiny.toml").open("a") as stream:
        stream.write(f"\n{text}\n")
    assert "put it in a module (modules/NAME/module.toml) and add that module to image.modules" in error(root)


def test_a_table_of_an_image_in_a_module_is_sent_there(root: Path) -> None:
    module(root, "one", "[disk]\nmin_gb = 1\n")
    assert "modules/one/module.toml: unknown key 'disk'; put it in an image (images/NAME.toml)" in error(root)


# --- the page about images

PAGE = project_root(Path(__file__)) / "docs/contributing/images.md"
#: The words of the page for TOML's types.
TYPES = {"string": str, "integer": int, "list of strings": list, "table of strings": dict}


def keys_of(model: type[BaseModel], above: str = "") -> dict[str, FieldInfo]:
    """The dotted keys of a model's tables."""
    found: dict[str, FieldInfo] = {}
    for name, field in model.model_fields.items():
        inner = [one for one in (field.annotation, *get_args(field.annotation)) if isinstance(one, type)]
        table = next((one for one in inner if issubclass(one, BaseModel)), None)
        found |= keys_of(table, f"{above}{name}.") if table else {f"{above}{name}": field}
    return found


def documented() -> dict[str, tuple[str, str, str]]:
    """Type, default and example of each key on the page, as they are written there."""
    rows = re.findall(r"^\| `([\w.]+)` \| ([\w ]+) \| (?:`(.*?)` )?\| `(.*?)` \| ", PAGE.read_text(), re.MULTILINE)
    return {key: (kind, default, example) for key, kind, default, example in rows}


def test_the_page_has_every_key_of_an_image_with_its_default() -> None:
    known, rows = keys_of(Image), documented()
    assert rows.keys() == known.keys()
    for key, (kind, default, example) in rows.items():
        meant = known[key].get_default(call_default_factory=True)
        meant = None if meant is PydanticUndefined else meant
        given = tomllib.loads(f"x = {default}")["x"] if default else None
        assert given == (list(meant) if isinstance(meant, tuple) else meant), key
        assert isinstance(tomllib.loads(f"x = {example}")["x"], TYPES[kind]), key


@pytest.mark.parametrize("kind", ["machine", "container"])
def test_the_examples_of_the_page_are_an_image(kind: str, tmp_path: Path) -> None:
    lines = {key: f"{key} = {example}\n" for key, (_, _, example) in documented().items()}
    of_machines = ("disk.", "kernel.", "openstack", "image.containers", "image.hostname", "image.min_ram_mb")
    unwanted = ("container.",) if kind == "machine" else of_machines
    text = "".join(line for key, line in lines.items() if not key.startswith(unwanted))
    (tmp_path / "x.toml").write_text(text)
    image = load(Image, tmp_path / "x.toml", tmp_path)
    assert (image.container is None) == (kind == "machine")


def test_the_page_says_what_an_image_cannot_do_without(tmp_path: Path) -> None:
    """A key without which an image that extends no other is refused, though the page has a default for it."""
    lines = {key: f"{key} = {example}\n" for key, (_, _, example) in documented().items()}
    lines = {key: line for key, line in lines.items() if key not in ("image.extends", "image.without")}
    lines = {key: line for key, line in lines.items() if not key.startswith("container.")}
    needed = set()
    for left_out in lines:
        (tmp_path / "x.toml").write_text("".join(line for key, line in lines.items() if key != left_out))
        try:
            load(Image, tmp_path / "x.toml", tmp_path)
        except DefinitionError:
            needed.add(left_out)
    assert needed > {"image.name", "image.modules"}
    for key in needed:
        row = next(line for line in PAGE.read_text().splitlines() if line.startswith(f"| `{key}` |"))
        assert not documented()[key][1] or "required" in row, row


def test_the_files_of_the_page_are_good(tmp_path: Path) -> None:
    """What somebody types who follows it."""
    names = {"[module]": "modules/course-tools/module.toml", "[image]": "images/teaching.toml"}
    texts = [textwrap.dedent(block) for block in re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)]
    for name in ("images", "modules"):
        shutil.copytree(project_root(Path(__file__)) / name, tmp_path / name, symlinks=True)
    for text in texts:
        path = tmp_path / names[text.splitlines()[0]]
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    definition, master = define(tmp_path, "teaching"), define(tmp_path, "master")
    assert set(definition.modules) - set(master.modules) == {"course-tools"}
    assert definition.python["notebook"] == sorted({*master.python["notebook"], "altair>=5,<6"})
