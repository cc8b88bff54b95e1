"""Version and hash of the JSON files that frugalseg writes and reads back.

A file of a newer format is refused, never guessed at. A sealed file holds the hash of its own content, so that a
changed byte is told from a value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from frugalseg import __version__
from frugalseg.errors import DataError
from frugalseg.files import hash_value, read_json_object

SEAL = "sha256"
_OTHER = "was it changed, or written by another version of frugalseg?"
RUN_FORMAT = PLAN_FORMAT = SPLIT_FORMAT = 1  # here, so that `info` reads a run without importing what writes it
VOTERS = "voters"  # key of run.json: the stored files of labelled cases that vote in predictions


class NewerFormat(DataError):
    """A file that a later version of frugalseg wrote: intact, and not ours to replace."""


@contextmanager
def describing(what: str, where: Path) -> Iterator[None]:
    """Turn what goes wrong while a file's values are taken apart (a key missing, a wrong kind) into one line.

    Raises:
        DataError: Something did; says what.
    """
    try:
        yield
    except KeyError as error:
        raise DataError(f"does not describe {what} ({error} is missing); {_OTHER}", where) from error
    except (TypeError, ValueError, AttributeError, OverflowError, IndexError) as error:
        line = " ".join(str(error).split("For further information")[0].split())[:200]
        raise DataError(f"does not describe {what} ({line or type(error).__name__}); {_OTHER}", where) from error


def require_version(facts: Mapping[str, Any], known: int, where: Path) -> None:
    """Refuse a file of another format than `known`.

    Raises:
        NewerFormat: Names both formats, this version of frugalseg, and what to do.
        DataError: There is no format version, or an unknown one.
    """
    found = facts.get("format_version")
    if isinstance(found, bool) or not isinstance(found, int) or found < 1:
        raise DataError(f"has no format version (expected {known}): damaged, or not written by frugalseg", where)
    if found > known:
        raise NewerFormat(
            f"has format {found}; this frugalseg ({__version__}) reads up to {known}: update frugalseg", where
        )


def seal(facts: Mapping[str, Any], key: str = SEAL) -> dict[str, Any]:
    """Return the facts with the hash of them under `key`; an older hash there is replaced."""
    content = {name: value for name, value in facts.items() if name != key}
    return {**content, key: hash_value(content)}


def require_seal(facts: Mapping[str, Any], where: Path, key: str = SEAL) -> dict[str, Any]:
    """Return the facts without their hash.

    Raises:
        DataError: They do not have the hash that was written with them.
    """
    content = {name: value for name, value in facts.items() if name != key}
    try:
        intact = facts.get(key) == hash_value(content)
    except ValueError:  # NaN and the like, which we never write
        intact = False
    if not intact:
        raise DataError("is damaged or was changed: it does not have the hash that was written with it", where)
    return content


def read_sealed(path: Path, known: int) -> dict[str, Any]:
    """Read a sealed JSON file.

    Raises:
        DataError: It is missing, no JSON object, of another format, or not as it was written.
    """
    facts = read_json_object(path)
    require_version(facts, known, path)
    return require_seal(facts, path)
