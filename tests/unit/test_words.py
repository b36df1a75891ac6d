"""What is answered to a mistyped name."""

from __future__ import annotations

import pytest

from hubsmith.words import closest, nearest


@pytest.mark.parametrize(
    ("word", "known", "answer"),
    [
        ("jupiterhub", ["nginx", "jupyterhub"], "did you mean 'jupyterhub'?"),
        ("readme", ["README", "nginx"], "did you mean 'README'?"),
        ("slurm", ["nginx", "base"], "known: base, nginx"),
        ("slurm", [], "there are none"),
        ("slurm", [f"x{number}" for number in range(1000)], "none of the 1000 known names is similar"),
    ],
)
def test_the_nearest_name_or_all_of_a_few(word: str, known: list[str], answer: str) -> None:
    assert nearest(word, known) == answer


def test_nothing_is_near() -> None:
    assert closest("slurm", ["nginx"]) is None
