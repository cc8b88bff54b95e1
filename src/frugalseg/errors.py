"""Errors that a user can act on.

Every refusal of wrong input is a `UserError`: one line that says what is wrong, where, what was expected and
what to do. The command line prints it and exits with status 2; anything else is a failure of ours (status 1).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class UserError(Exception):
    """Wrong input, told in one line; the command ends with `status`.

    Args:
        what: What is wrong, and what to do about it, in one sentence or two.
        where: The file, folder, option or configuration key that it is about.
    """

    status = 2

    def __init__(self, what: str, where: Path | str | None = None) -> None:
        self.what = printable(" ".join(what.split()))
        self.where = None if where is None else str(where)
        super().__init__(self.what if self.where is None else f"{printable(self.where)}: {self.what}")

    def __reduce__(self) -> tuple[type[UserError], tuple[str, str | None]]:
        return type(self), (self.what, self.where)


class DataError(UserError):
    """An input file that cannot be read, or that contradicts another one."""


class ConfigError(UserError):
    """A setting that does not exist, or has a value that it cannot have."""


class TrainingError(UserError):
    """Training that cannot go on, told with the step and the cases it happened at."""


class ProcessError(UserError):
    """The end of a distributed run of which a process is gone.

    Args:
        what: What is known about it.
        status: What the command ends with.
        told: Whether another process has told a person why already.
    """

    def __init__(self, what: str, status: int = 1, told: bool = False) -> None:
        super().__init__(what)
        self.status, self.told = status, told


def printable(text: str) -> str:
    """Return the text with what no terminal should be sent (control characters, half characters) spelt out."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for the nearest of `choices` whatever its capitals, or an empty string."""
    by_lower = {choice.lower(): choice for choice in choices}
    near = difflib.get_close_matches(word.lower(), list(by_lower), n=1, cutoff=0.5)
    return f" Did you mean {by_lower[near[0]]!r}?" if near else ""
