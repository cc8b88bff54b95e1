"""Names of cases: files are made of them and lines printed with them, so not every name that a disk has will do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from frugalseg.errors import DataError

LONGEST = 160
"""Bytes of a case's name: what is made of it (store, predictions, temporary files) must fit into 255."""


def require_case_name(name: str, file: str) -> None:
    """Refuse a case's name that cannot be printed, stored, or told from another.

    Args:
        name: The case's name.
        file: The file that it comes from, for the message.

    Raises:
        DataError: It is empty, too long, not UTF-8, or has a control character.
    """
    shown = file.encode("utf-8", "backslashreplace").decode().encode("unicode_escape").decode("ascii")
    shown = shown.replace("\\\\", "\\")
    if not name.strip(".") or "/" in name:
        raise DataError(f"{shown[-200:]!r} names no case; rename the file")
    if any(0xD800 <= ord(letter) < 0xE000 for letter in name):
        raise DataError("its name is not UTF-8; rename it", shown)
    if any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in name):
        raise DataError("its name has a control character; rename it", shown)
    size = len(name.encode())
    if size > LONGEST:
        raise DataError(f"its case's name has {size} bytes, {LONGEST} are the most; rename it", file)


def require_apart(names: Iterable[str], where: object) -> None:
    """Refuse two names that differ only in capitals: on some disks they are one file.

    Raises:
        DataError: Names the two.
    """
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(name.casefold(), name)
        if other != name:
            first, second = sorted((other, name))
            raise DataError(f"cases {first!r} and {second!r} differ only in capitals; rename one", str(where))


def kind_of(value: Any) -> str:
    """Say in words what kind of JSON value it is."""
    kinds = {"list": "a list", "dict": "an object", "str": "text", "bool": "yes or no", "NoneType": "nothing"}
    return kinds.get(type(value).__name__, "a number")
