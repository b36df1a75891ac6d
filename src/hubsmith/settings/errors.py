"""Problems of a settings file. They are reported all at once, each with its location and a hint."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from hubsmith.errors import DefinitionError


@dataclass(frozen=True)
class Problem:
    """One problem of a settings file.

    :ivar key: path of the key, such as ``users[1].name``; empty for the whole file.
    :ivar what: one sentence without values, so that it may be public.
    :ivar line: line in the file, counted from 1, if known.
    :ivar value: the value in TOML notation, unless it is secret or very long.
    :ivar hint: the nearest known key, or the allowed values.
    """

    key: str
    what: str
    line: int | None = None
    value: str | None = None
    hint: str | None = None

    @property
    def public(self) -> str:
        """Location and problem without the value."""
        place = f"line {self.line}" if self.line else ""
        return ": ".join(part for part in (place, self.key, self.what) if part)

    def render(self, file: str) -> str:
        """Return the full message for the operator: one line, and a second one for the hint."""
        place = f"{file}:{self.line}" if self.line else file
        value = f" ({self.value})" if self.value is not None else ""
        text = ": ".join(part for part in (place, f"{self.key}{value}" if self.key else "", self.what) if part)
        return f"{text}\n    {self.hint}" if self.hint else text


class SettingsError(DefinitionError):
    """The settings are missing or invalid (exit code 3). Contains all problems."""

    def __init__(self, file: str, problems: tuple[Problem, ...]) -> None:
        self.file, self.problems = file, problems
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__(f"{count} in the settings", where=file)

    def __str__(self) -> str:
        return "\n".join([f"{self.file}: {self.what}", *(f"  {p.render(self.file)}" for p in self.problems)])

    def as_json(self) -> dict[str, object]:
        """Return the file and its problems as JSON data."""
        return {"file": self.file, "problems": [asdict(problem) for problem in self.problems]}
