"""The problems of a settings file: all of them at once, each with its place and its remedy."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from hubsmith.errors import DefinitionError


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    :ivar key: the path of the key, such as ``users[1].name``; empty for the file as a whole.
    :ivar what: one sentence, free of values: it may be shown in public.
    :ivar line: line in the file, counted from 1, when it is known.
    :ivar value: the value as it would be written in TOML, unless it is a secret or very long.
    :ivar hint: the nearest known key, or what is allowed.
    """

    key: str
    what: str
    line: int | None = None
    value: str | None = None
    hint: str | None = None

    @property
    def public(self) -> str:
        """Where and what, without any value."""
        place = f"line {self.line}" if self.line else ""
        return ": ".join(part for part in (place, self.key, self.what) if part)

    def render(self, file: str) -> str:
        """All that is known, for the operator: one line and, for a hint, a second one."""
        place = f"{file}:{self.line}" if self.line else file
        value = f" ({self.value})" if self.value is not None else ""
        text = ": ".join(part for part in (place, f"{self.key}{value}" if self.key else "", self.what) if part)
        return f"{text}\n    {self.hint}" if self.hint else text


class SettingsError(DefinitionError):
    """The settings are missing or bad (exit code 3); knows every problem."""

    def __init__(self, file: str, problems: tuple[Problem, ...]) -> None:
        self.file, self.problems = file, problems
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__(f"{count} in the settings", where=file)

    def __str__(self) -> str:
        return "\n".join([f"{self.file}: {self.what}", *(f"  {p.render(self.file)}" for p in self.problems)])

    def as_json(self) -> dict[str, object]:
        """For scripts: the file and a list of problems."""
        return {"file": self.file, "problems": [asdict(problem) for problem in self.problems]}
