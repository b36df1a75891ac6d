"""Errors with a message for people: what is wrong, where, and how to fix it.

Every error that a user can cause is a :class:`HubsmithError`. The command line prints it without a traceback and exits
with its ``exit_code``. The codes are documented in ``docs/operators/exit-codes.md``.
"""

from __future__ import annotations


class HubsmithError(Exception):
    """Error that a user can act on.

    :param what: what is wrong, in one sentence.
    :param where: file, key, host or unit, if there is one.
    :param hint: command or edit that fixes the problem, if there is one.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        return f"{head}\n  hint: {self.hint}" if self.hint else head


class DefinitionError(HubsmithError):
    """An image definition, module, host file or settings file is invalid (exit code 3)."""

    exit_code = 3


class LockError(HubsmithError):
    """A lock is missing, does not match its definition, or cannot be solved (exit code 4)."""

    exit_code = 4


class FetchError(HubsmithError):
    """An artifact cannot be fetched (exit code 5)."""

    exit_code = 5


class BuildError(HubsmithError):
    """A build failed (exit code 6)."""

    exit_code = 6


class ImageFailed(HubsmithError):
    """A machine did not behave as required: the image is faulty (exit code 7)."""

    exit_code = 7


class HarnessFailed(HubsmithError):
    """The test harness failed, so nothing is known about the image (exit code 8)."""

    exit_code = 8
