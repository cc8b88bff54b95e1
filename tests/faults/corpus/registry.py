"""The list of malformed inputs: what is broken, which command meets it, and what its one line must say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from tests.faults.corpus.scene import Scene

Break = Callable[[Scene], Sequence[object] | None]
"""Breaks something in a scene; what it returns is appended to the command."""
AnyBreak = TypeVar("AnyBreak", bound=Break)


@dataclass(frozen=True)
class Malformed:
    """One malformed input.

    Attributes:
        name: What is wrong, in a word or a few.
        group: The module that it stands in.
        command: Key of `scene.COMMANDS`.
        where: The file or key that the line must begin with.
        found: What the line must say was found.
        todo: What the line must say was expected, or is to be done.
        break_: Makes it.
    """

    name: str
    group: str
    command: str
    where: str
    found: str
    todo: str
    break_: Break


@dataclass(frozen=True)
class Legal:
    """An unusual input that must give the same result as the plain one. `before` is done to both."""

    name: str
    group: str
    command: str
    break_: Break
    before: Break | None


MALFORMED: dict[str, Malformed] = {}
LEGAL: dict[str, Legal] = {}


def malformed(command: str, where: str, found: str, todo: str) -> Callable[[AnyBreak], AnyBreak]:
    """Register a function that breaks a scene, and what the command's line must say of it."""

    def register(function: AnyBreak) -> AnyBreak:
        name, group = function.__name__, function.__module__.rsplit(".", 1)[-1]
        assert name not in MALFORMED, name
        MALFORMED[name] = Malformed(name, group, command, where, found, todo, function)
        return function

    return register


def legal(command: str = "prepare", before: Break | None = None) -> Callable[[AnyBreak], AnyBreak]:
    """Register a function that changes a scene's files without changing what they mean."""

    def register(function: AnyBreak) -> AnyBreak:
        name, group = function.__name__, function.__module__.rsplit(".", 1)[-1]
        assert name not in LEGAL, name
        LEGAL[name] = Legal(name, group, command, function, before)
        return function

    return register
