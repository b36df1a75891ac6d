"""The settings of an image are those that its modules declare: composition, and what is judged when it is planned."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from hubsmith.cli import main
from hubsmith.definition import define, image_names
from hubsmith.definition.schemas import schema_of, schemas
from hubsmith.errors import DefinitionError
from hubsmith.guest.apply import apply
from hubsmith.guest.layout import Layout
from hubsmith.paths import project_root
from hubsmith.plan import dumps
from hubsmith.plan.images import manifest_of
from hubsmith.plan.templates import check, examples
from hubsmith.settings.errors import SettingsError
from hubsmith.settings.load import Settings, parse
from hubsmith.settings.passwords import hash_password
from hubsmith.settings.schema import Schema, compose, read_parts

ROOT = project_root(Path(__file__))
HEAD = """from __future__ import annotations
from hubsmith.settings.scalars import Int, Line
from hubsmith.settings.tables import Choices, Field, Findings, Table, choice, fact, provides, rule, table
"""
LAMP = """
@table("lamp")
class Lamp(Table):
    height: Int = Field(default=1, description="In metres.", examples=[2])
"""
COLOUR = """
@table("lamp")
class Lamp(Table):
    colour: Line = Field(default="red", description="Of the light.", examples=["green"])

@rule("lamp")
def it_is_mine(lamp: Lamp) -> Findings:
    if isinstance(lamp, Lamp) and lamp.colour == "black":
        yield "lamp.colour", "gives no light"
"""
KIND = """
@table("lamp")
class Lamp(Table):
    kind: Choices = Field()
"""
KEYS = 'ssh_keys = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINnDBxry+N+Krzrg0jjzg3EfQ3t+/wQcARBf6OqBHXZA"]'


def composed(folder: Path, **modules: str) -> Schema:
    """The schema of modules by the text of their declarations."""
    for topic, text in modules.items():
        (folder / topic).mkdir()
        (folder / topic / "settings.py").write_text(HEAD + text)
    return compose(read_parts(folder))


def read(schema: Schema, text: str) -> Settings:
    return parse(text.encode() or b"#", "settings.toml", schema)


def refused(schema: Schema, text: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        read(schema, text)
    return [problem.render("settings.toml") for problem in caught.value.problems]


# --- composition


def test_a_table_has_the_keys_of_all_modules(tmp_path: Path) -> None:
    schema = composed(tmp_path, b=COLOUR, a=LAMP)
    assert read(schema, "[lamp]\nheight = 3").plain() == {"lamp": {"height": 3, "colour": "red"}}
    assert schema.tables["lamp"].topics == ("a", "b")
    assert refused(schema, '[lamp]\nheight = "x"\ncolour = 5') == [
        'settings.toml:2: lamp.height ("x"): must be a whole number, not a string',
        "settings.toml:3: lamp.colour (5): must be a string in quotes, not a whole number",
    ]


def test_a_rule_gets_the_class_that_it_was_written_for(tmp_path: Path) -> None:
    schema = composed(tmp_path, b=COLOUR, a=LAMP)
    assert refused(schema, '[lamp]\ncolour = "black"') == ['settings.toml:2: lamp.colour ("black"): gives no light']


def test_a_rule_is_not_judged_while_its_table_is_wrong(tmp_path: Path) -> None:
    schema = composed(tmp_path, b=COLOUR, a=LAMP)
    assert len(refused(schema, '[lamp]\ncolour = "black"\nheight = "x"')) == 1


def test_the_only_choice_is_the_default(tmp_path: Path) -> None:
    schema = composed(tmp_path, a=KIND, b='ONE = choice("lamp.kind", "oil", "burns oil.")')
    assert read(schema, "").plain() == {"lamp": {"kind": "oil"}}
    assert refused(schema, '[lamp]\nkind = "gas"') == ['settings.toml:2: lamp.kind ("gas"): must be "oil"']


def test_a_further_choice_is_a_folder(tmp_path: Path) -> None:
    more = {"b": 'ONE = choice("lamp.kind", "oil", "burns oil.", default=True)'}
    schema = composed(tmp_path, a=KIND, c='ONE = choice("lamp.kind", "gas", "burns gas.")', **more)
    assert read(schema, '[lamp]\nkind = "gas"').plain() == {"lamp": {"kind": "gas"}}
    assert read(schema, "").plain() == {"lamp": {"kind": "oil"}}
    assert refused(schema, '[lamp]\nkind = "x"') == ['settings.toml:2: lamp.kind ("x"): must be "oil" or "gas"']
    assert schema.tables["lamp"].model.model_fields["kind"].description == "`oil`: burns oil. `gas`: burns gas."


def test_of_several_choices_without_a_default_one_must_be_made(tmp_path: Path) -> None:
    choices = {one: f'ONE = choice("lamp.kind", "{one}", "burns.")' for one in ("gas", "oil")}
    assert refused(composed(tmp_path, a=KIND, **choices), "") == ["settings.toml: lamp.kind: is missing"]


FACT = 'BRIGHT = fact("bright", default=False)\n'
BRIGHT = """
@provides("bright", "lamp")
def bright(lamp: Lamp) -> bool | None:
    return True if lamp.height > 5 else None
"""


def test_a_fact_is_its_default_until_a_module_knows_better(tmp_path: Path) -> None:
    schema = composed(tmp_path, a=FACT, b=LAMP + BRIGHT)
    assert read(schema, "").facts == {"bright": False}
    assert read(schema, "[lamp]\nheight = 9").facts == {"bright": True}


def test_two_modules_that_know_better_are_an_error(tmp_path: Path) -> None:
    schema = composed(tmp_path, a=FACT, b=LAMP + BRIGHT, c=BRIGHT)
    assert read(schema, "").facts == {"bright": False}
    with pytest.raises(DefinitionError, match="the modules 'b' and 'c' both provide the fact 'bright'"):
        read(schema, "[lamp]\nheight = 9")


NEEDS = """
@rule("shade", facts=("bright",))
def bright_lamps_have_one(shade: Shade, bright: bool) -> Findings:
    if bright and not shade.width:
        yield "shade.width", "the lamp is too bright"

@table("shade")
class Shade(Table):
    width: Int = Field(default=0, description="In metres.", examples=[1])
"""


def test_a_rule_gets_the_facts_that_it_names(tmp_path: Path) -> None:
    schema = composed(tmp_path, a=FACT + NEEDS, b=LAMP + BRIGHT)
    assert read(schema, "[shade]\nwidth = 0").facts == {"bright": False}
    assert refused(schema, "[lamp]\nheight = 9\n[shade]\nwidth = 0") == [
        "settings.toml:4: shade.width (0): the lamp is too bright"
    ]
    assert len(refused(schema, '[lamp]\nheight = "x"\n[shade]\nwidth = 0')) == 1, "the fact's table is wrong"
    assert read(schema, "[lamp]\nheight = 9\n[shade]\nwidth = 1").facts == {"bright": True}


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        ({"a": LAMP, "b": LAMP}, r"^modules/b/settings.py: `lamp.height` is declared by the module 'a', too"),
        (
            {"a": LAMP, "b": COLOUR.replace('"lamp")', '"lamp", many=True)', 1)},
            r"^modules/b/settings.py: `lamp` is a table and a list of tables",
        ),
        ({"a": COLOUR.replace('@rule("lamp")', '@rule("lam")')}, r"^modules/a/settings.py:9: no .* table `lam`"),
        ({"a": LAMP + BRIGHT}, r"^modules/a/settings.py:9: no module of the image declares the fact 'bright'"),
        ({"a": NEEDS}, r"^modules/a/settings.py:5: no module of the image declares the fact 'bright'"),
        ({"a": FACT, "b": FACT}, r"^modules/b/settings.py: another module declares the fact 'bright', too"),
        ({"a": KIND}, r"^modules/a/settings.py: no module of the image brings a choice for `lamp.kind`"),
        ({"a": LAMP, "b": 'ONE = choice("lamp.height", "x", "")'}, r"^modules/b/.* has choices for `lamp.height`"),
        ({"a": 'ONE = choice("lamp.kind", "x", "")'}, r"^modules/a/settings.py: no module of the image has choices"),
        ({"a": KIND, **dict.fromkeys("bc", 'ONE = choice("lamp.kind", "x", "")')}, "bring the same choice for"),
        (
            {"a": KIND, **{one: f'ONE = choice("lamp.kind", "{one}", "", default=True)' for one in "bc"}},
            "two modules bring the default of `lamp.kind`",
        ),
        ({"a": LAMP + "\nx = 1 / 0"}, r"^modules/a/settings.py:9: ZeroDivisionError"),
        ({"a": "\n\nclass :"}, r"^modules/a/settings.py:6: SyntaxError"),
        ({"a": LAMP.replace("Int", "Integer")}, r"^modules/a/settings.py: .*: name 'Integer' is not defined$"),
    ],
    ids=range(14),
)  # fmt: skip
def test_declarations_that_do_not_fit_together(tmp_path: Path, modules: dict[str, str], message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        composed(tmp_path, **modules)


def test_an_unknown_table_and_what_an_appliance_knows_of_it(tmp_path: Path) -> None:
    schema = composed(tmp_path, a=LAMP)
    assert refused(schema, "[lamb]") == ["settings.toml:1: lamb: unknown table; did you mean `lamp`?"]
    unknown = "settings.toml:1: users: unknown table: this image has no module for it\n    known: lamp"
    assert refused(schema, "[[users]]") == [unknown]
    unknown = "settings.toml:2: lamp.x: unknown key: this image has no module for it\n    known: height"
    assert refused(schema, "[lamp]\nx = 1") == [unknown]


# --- the images of the tree


@pytest.mark.parametrize("image", image_names(ROOT))
def test_every_template_of_every_image_can_be_rendered(image: str) -> None:
    check(define(ROOT, image))


def test_a_key_of_several_other_images_is_an_error_that_names_them(tmp_path: Path) -> None:
    schema = replace(composed(tmp_path, a=LAMP), image="one", elsewhere={"lamp.wick": ("three", "two")})
    assert refused(schema, "[lamp]\nwick = 1") == [
        "settings.toml:2: lamp.wick: no module of the image one reads this key; the images three and two do"
    ]


def test_a_table_of_another_image_is_an_error_that_names_it() -> None:
    known = schemas(ROOT)
    worker = refused(known["swarm-worker"], '[cluster]\nmanager = "10.77.0.1"\n[[users]]\nname = "alice"')
    assert (
        "settings.toml:3: users: no module of the image swarm-worker reads this table; the image master does" in worker
    )


def test_the_command_takes_an_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "settings.toml"
    shutil.copy(ROOT / "tests/unit/settings_good/smallest.toml", file)
    assert main(["settings", "check", str(file)]) == 0
    assert capsys.readouterr().out == f"{file}: good for the image master\n"
    assert main(["settings", "check", str(file), "--image", "swarm-worker"]) == 3
    assert "users: no module of the image swarm-worker reads this table" in capsys.readouterr().out
    file.write_text('[cluster]\nmanager = "10.77.0.1"\n')
    assert main(["settings", "check", str(file), "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["image"] == "swarm-worker"
    assert main(["settings", "check", str(file), "--image", "notebook"]) == 3
    known = capsys.readouterr().err.partition("known: ")[2].strip().split(", ")
    assert {"master", "swarm-worker"} <= set(known) < {*image_names(ROOT)}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of this project, as far as images are made of it."""
    for name in ("images", "modules", "nix", "src"):
        shutil.copytree(ROOT / name, tmp_path / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_a_module_with_one_setting_changes_nothing_else(tree: Path) -> None:
    before = {name: dumps(manifest_of(tree, name)) for name in image_names(tree)}
    module = tree / "modules" / "lamp"
    (module / "templates").mkdir(parents=True)
    (module / "settings.py").write_text(HEAD + LAMP)
    (module / "module.toml").write_text(
        '[module]\nsummary = "A lamp"\nrequires = ["agent"]\n[settings]\nreads = ["lamp"]\n'
        '[[templates]]\nsource = "lamp.j2"\ntarget = "/run/hubsmith/lamp"\n'
    )
    (module / "templates/lamp.j2").write_text("{{ settings.lamp.height }}\n")
    image = tree / "images/swarm-worker.toml"
    image.write_text(image.read_text().replace("modules = [", 'modules = ["lamp", '))
    after = {name: dumps(manifest_of(tree, name)) for name in image_names(tree)}
    assert [name for name in before if before[name] != after[name]] == ["swarm-worker"]
    check(define(tree, "swarm-worker"))

    known = schemas(tree)
    assert known["swarm-worker"].tables.keys() - known["master"].tables.keys() == {"lamp"}
    elsewhere = "settings.toml:1: lamp: no module of the image master reads this table; the image swarm-worker does"
    assert elsewhere in refused(known["master"], "[lamp]\n")
    for file in (ROOT / "tests/unit/settings_bad").glob("*.toml"):
        name = "swarm-worker" if file.stem.startswith("worker_") else "master"
        with pytest.raises(SettingsError) as caught:
            parse(file.read_bytes(), "settings.toml", known[name])
        assert f"{caught.value}\n" == file.with_suffix(".txt").read_text()

    # One more setting of that module: again only the image that has it.
    (module / "settings.py").write_text(HEAD + LAMP.replace("height", "width"))
    (module / "templates/lamp.j2").write_text("{{ settings.lamp.width }}\n")
    later = {name: dumps(manifest_of(tree, name)) for name in image_names(tree)}
    assert [name for name in before if after[name] != later[name]] == ["swarm-worker"]


@pytest.mark.parametrize(
    ("key", "known"), [("spawner.kind", '"local", "swarm" or "toy"'), ("auth.method", '"local" or "toy"')]
)
def test_a_spawner_or_an_authenticator_is_a_folder(tree: Path, key: str, known: str) -> None:
    module, (table, field) = tree / "modules" / "toy", key.split(".")
    module.mkdir()
    (module / "module.toml").write_text('[module]\nsummary = "A toy"\nrequires = ["homes", "jupyterhub"]\n')
    (module / "settings.py").write_text(
        f"""{HEAD}
from typing import Any
TOY = choice("{key}", "toy", "not for work.")
GUESTS = fact("guests", default=False)
@provides("guests", "{table}")
def guests(table: Any) -> bool:
    return bool(table.{field} == "toy")
"""
    )
    image = tree / "images/master.toml"
    image.write_text(image.read_text().replace("modules = [", 'modules = ["toy", '))
    check(define(tree, "master"))
    schema, smallest = schemas(tree)["master"], (ROOT / "tests/unit/settings_good/smallest.toml").read_text()
    assert read(schema, smallest).facts["guests"] is False
    chosen = read(schema, f'{smallest}[{table}]\n{field} = "toy"\n')
    assert (chosen.plain()[table][field], chosen.facts["guests"]) == ("toy", True)
    if table == "auth":
        read(schema, '[auth]\nmethod = "toy"\n[[users]]\nname = "alice"\n')  # an account of another place
    (problem,) = refused(schema, f'{smallest}[{table}]\n{field} = "toi"\n')
    assert problem.endswith(f'{key} ("toi"): must be {known}')


@pytest.mark.parametrize(
    "password", ["", f'password_hash = "{hash_password("hunter2-hunter2", cost=4)}"\n'], ids=["nothing", "password"]
)
def test_users_of_an_image_without_a_hub_need_an_ssh_key(tree: Path, password: str) -> None:
    image = '[image]\nname = "gateway"\nsummary = "No hub"\nmodules = ["accounts"]\nhostname = "gateway"\n'
    (tree / "images/gateway.toml").write_text(image)
    schema = schemas(tree)["gateway"]
    people = f'[[users]]\nname = "alice"\n{KEYS}\n[[users]]\nname = "bob"\n{password}'
    why = "give `ssh_keys`; this image has no hub, and SSH takes no passwords"
    assert refused(schema, people) == [f"settings.toml:4: users[1]: the user has no way in: {why}"]
    assert read(schema, people + KEYS).facts["ways_in"] == ("ssh_keys",)


# --- templates


def judged(tree: Path, template: str, when: str = "good", reads: str = '"cluster", "lamp"') -> str:
    """What is said of a worker with a module of this template, which reads `cluster` and a table of its own."""
    module = tree / "modules" / "lamp"
    (module / "templates").mkdir(parents=True)
    (module / "settings.py").write_text(HEAD + LAMP + BRIGHT + FACT)
    (module / "module.toml").write_text(
        f'[module]\nsummary = "A lamp"\nrequires = ["swarm-cluster"]\n[settings]\nreads = [{reads}]\n'
        f'[[templates]]\nsource = "lamp.j2"\ntarget = "/run/hubsmith/lamp"\nwhen = "{when}"\n'
    )
    (module / "templates/lamp.j2").write_text(template)
    image = tree / "images/swarm-worker.toml"
    image.write_text(image.read_text().replace("modules = [", 'modules = ["lamp", '))
    try:
        check(define(tree, "swarm-worker"))
    except DefinitionError as error:
        return str(error)
    return "good"


PLACE = "images/swarm-worker.toml: modules/lamp/templates/lamp.j2"


@pytest.mark.parametrize(
    ("template", "when", "said"),
    [
        ("{{ settings.lamp.height }} {{ facts.bright }} {{ machine.cpus }}", "good", "good"),
        ("{{ reasons | join }}{{ settings.lamp.height if settings }}", "always", "good"),
        (
            "one\n{{ settings.lamp.hight }}\n", "good",
            f"{PLACE}:2: there is no settings.lamp.hight; did you mean 'height'?",
        ),
        (
            "{% if settings.lamp.height > 7000 %}\n{{ settings.lamp.txt }}\n{% endif %}", "good",
            f"{PLACE}:2: there is no settings.lamp.txt; known: height",
        ),
        ("{{ settings.users }}", "good", f"{PLACE}:1: there is no settings.users; did you mean 'cluster'?"),
        (
            "{{ settings.metrics }}", "good",
            f"{PLACE}:1: there is no settings.metrics; `[settings] reads` does not name the table",
        ),
        ("\n\n{{ facts.brght }}", "good", f"{PLACE}:3: there is no facts.brght; did you mean 'bright'?"),
        ("{{ secrets.token }}", "good", f"{PLACE}:1: there is no secrets.token; did you mean 'proxy_token'?"),
        ("\n{{ nothing }}", "good", f"{PLACE}:2: 'nothing' is undefined"),
        (
            "{% for port in ports %}\n{{ port.name }}{% endfor %}", "good",
            f"{PLACE}:2: 'dict object' has no attribute 'name'",
        ),
        ("\n{% if %}", "good", f"{PLACE}:2: Expected an expression, got 'end of statement block'"),
        ("\n{{ settings.lamp.height + 'm' }}", "good", f"{PLACE}:2: unsupported operand type"),
        ("{{ settings.lamp.height }}", "bad", f"{PLACE}:1: 'None' has no attribute 'lamp'"),
    ],
    ids=range(13),
)  # fmt: skip
def test_what_templates_ask_for(tree: Path, template: str, when: str, said: str) -> None:
    assert judged(tree, template, when).startswith(said)


def test_a_table_that_nobody_declares_cannot_be_read(tree: Path) -> None:
    assert judged(tree, "", reads='"lamp", "lampp"') == (
        "images/swarm-worker.toml: modules/lamp/module.toml: settings.reads: no module of the image declares the table "
        "`lampp`; did you mean 'lamp'?"
    )


def test_a_table_that_nobody_reads_cannot_be_declared(tree: Path) -> None:
    assert judged(tree, "", reads="") == (
        "images/swarm-worker.toml: modules/lamp/settings.py: no module of the image reads the table `lamp`; add it to "
        "`[settings] reads` in modules/lamp/module.toml"
    )


def test_examples_have_what_a_machine_has(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    for folder in (layout.settings.parent, layout.modules / "lamp", layout.hooks):
        folder.mkdir(parents=True)
    layout.settings.write_text("[lamp]\n")
    (layout.modules / "lamp/settings.py").write_text(HEAD + LAMP)
    (layout.modules / "lamp/module.toml").write_text('[settings]\nreads = ["lamp"]\n')
    hook = layout.hooks / "10-lamp"
    hook.write_text(f"#!/bin/sh\ncat > {tmp_path}/context\n")
    hook.chmod(0o755)
    assert apply(layout).state == "good"
    context = json.loads((tmp_path / "context").read_text())
    for example in examples(compose(read_parts(layout.modules)), {}):
        assert example.keys() == context.keys()
        assert example["machine"].keys() == context["machine"].keys()


def test_examples_reach_every_branch_of_settings() -> None:
    full, defaults, bad = examples(schema_of(define(ROOT, "master")), {})
    assert (full["settings"]["spawner"]["kind"], defaults["settings"]["spawner"]["kind"]) == ("swarm", "local")
    assert full["settings"]["users"][0]["name"] == "alice"
    assert full["settings"]["spawner"]["profiles"][0]["name"] == "Large"
    assert (full["facts"]["home_owner"], defaults["facts"]["home_owner"]) == ((1000, 100), None)
    assert (bad["settings"], bad["facts"]["home_owner"]) == (None, None)
