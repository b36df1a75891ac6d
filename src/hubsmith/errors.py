"""Errors for people: what is wrong, where, and the command that mends it.

Every error that a user can cause or meet is a :class:`HubsmithError`. The command line prints it without a
traceback and exits with its ``exit_code``. The codes are documented in ``docs/operators/exit-codes.md``.
"""

from __future__ import annotations


class HubsmithError(Exception):
    """An error that a person can act on.

    :param what: one sentence that says what is wrong.
    :param where: the file, key, host or unit that it is about, when there is one.
    :param mend: the command or the edit that mends it, when there is one.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str | None = None, mend: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.mend = mend

    def __str__(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        return f"{head}\n  mend: {self.mend}" if self.mend else head


class DefinitionError(HubsmithError):
    """An image definition, a module, a host file or a settings file is wrong (exit code 3)."""

    exit_code = 3


class LockError(HubsmithError):
    """A lock is missing, does not match its definition, or cannot be solved (exit code 4)."""

    exit_code = 4


class FetchError(HubsmithError):
    """An artifact is not in the cache and no archive has it any more (exit code 5)."""

    exit_code = 5


class BuildError(HubsmithError):
    """A build failed (exit code 6)."""

    exit_code = 6


class ImageFailed(HubsmithError):
    """The appliance did not do what it must: the image is at fault (exit code 7)."""

    exit_code = 7


class HarnessFailed(HubsmithError):
    """The test harness could not do its work: the image was not judged (exit code 8)."""

    exit_code = 8
