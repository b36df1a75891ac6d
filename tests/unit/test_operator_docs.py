"""The commands and figures of the operators' pages that can be tried without a cloud."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from hubsmith.definition.schemas import schemas
from hubsmith.settings.load import parse

DOCS = Path(__file__).parents[2] / "docs/operators"
SETTINGS = """[hub]
domain = "hub.example.org"
announcement = "a 'quote', a \\"quote\\", a #, a $HOME and an ü"

[[users]]
name = "alice"
password_hash = "$2b$12$abcdefghijklmnopqrstuuJ6PkXFyd5Hk0nG2rL5eTtPNYHf7mJ0K"
"""


def test_the_recipe_for_user_data_carries_the_settings_unchanged(tmp_path: Path) -> None:
    [recipe] = re.findall(r"^\{ printf .*?^chmod [^\n]*$", (DOCS / "run-on-a-cloud.md").read_text(), re.M | re.S)
    (tmp_path / "settings.toml").write_text(SETTINGS)
    parse(SETTINGS.encode(), "settings.toml", schemas(DOCS.parents[1])["master"])
    subprocess.run(["sh", "-e", "-c", recipe], cwd=tmp_path, check=True)
    file = tmp_path / "user-data.yaml"
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.read_text().startswith("#cloud-config\n")
    assert yaml.safe_load(file.read_text()) == {
        "write_files": [{"path": "/etc/hubsmith/settings.toml", "permissions": "0600", "content": SETTINGS}]
    }


@pytest.mark.parametrize("flavor", ["tiny", "small", "quad", "medium", "large", "xl", "2xl"])
def test_the_table_of_flavors_follows_its_formula(flavor: str) -> None:
    row = rf"^\| `m3\.{flavor}` \| \d+ \| (\d+) GB \| \d+ GB \| (\d+) \| (\d+) \|$"
    [figures] = re.findall(row, (DOCS / "sizing.md").read_text(), flags=re.M)
    memory, at_limit, idle = map(int, figures)
    left = 1024 * memory - max(640, 1024 * memory / 12)
    assert (at_limit, idle) == (int(left / 1024), int(left / 160))
