"""Reading and writing files so that nothing is lost and nothing is believed.

Writes go to a temporary file in the same folder, are flushed to the disk, and then renamed: a reader sees the
old file or the new one, never a half. Reads of text have a size limit and say in one line what is wrong.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import stat
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from frugalseg.errors import DataError

MAX_TEXT_BYTES = 64 * 2**20
MAX_DEPTH = 100
MAX_DIGITS = 400
TEMPORARY = ".tmp-"


def write_atomic(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary file beside `path`, then put it in the place of `path`.

    The temporary name keeps the suffixes of `path`, because writers of images choose the format by them.

    Raises:
        DataError: The folder cannot be written to, or the disk is full.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=TEMPORARY, suffix="-" + path.name, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.chmod(temporary, _MODE)
        os.replace(temporary, path)
        temporary = None
        sync_folder(path.parent)
    except OSError as error:
        raise DataError(f"cannot be written ({error.strerror or error}); nothing was changed", path) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def remove_temporary(folder: Path, older_than: float = 0.0) -> None:
    """Remove what a killed `write_atomic` left in `folder`, where it is at least `older_than` seconds old.

    Younger ones may belong to a process that is at work, unless the caller holds the folder alone.
    """
    for path in folder.glob(f"{TEMPORARY}*"):
        try:
            if time.time() - path.stat().st_mtime >= older_than:
                path.unlink()
        except OSError:
            continue  # gone meanwhile, or not ours to remove


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically, in UTF-8."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically."""

    def write(temporary: Path) -> None:
        temporary.write_bytes(data)

    write_atomic(path, write)


def write_json(path: Path, value: object) -> None:
    """Write `value` to `path` atomically, as indented JSON. NaN is not JSON and is refused."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n")


def sync_folder(folder: Path) -> None:
    """Flush a folder's list of names to the disk, where the system can do that."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some file systems cannot, and need not
            raise
    finally:
        os.close(handle)


def read_text(path: Path, limit: int = MAX_TEXT_BYTES) -> str:
    """Read a text file in UTF-8.

    Raises:
        DataError: It is missing, too large (over `limit` bytes), not a file, or not UTF-8.
    """
    try:
        size = path.stat().st_size
        require_file(path)
        if size > limit:
            raise DataError(f"has {size} bytes, more than the {limit} that such a file may have", path)
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise DataError("does not exist; restore it, or give another name", path) from error
    except UnicodeDecodeError as error:
        raise DataError(f"is not UTF-8 text (byte {error.start}); save it as UTF-8", path) from error
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror or error})", path) from error


def require_file(path: Path) -> None:
    """Refuse what is there and is no file: a folder, a pipe, a device, a link that leads round.

    Raises:
        DataError: Says what it is.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"cannot be read ({getattr(error, 'strerror', None) or error}); put a file there, or take it out", path
        ) from error
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFDIR: "folder", stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket"}
        kind = kinds.get(stat.S_IFMT(mode), "device")
        raise DataError(f"is a {kind}, a file was expected; put one there, or take it out", path)


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        DataError: It is missing, unreadable, or not JSON; the line is named.
    """
    text = read_text(path)
    if not text.strip():
        raise DataError("is not valid JSON: it is empty; restore it, or write it anew", path)
    try:
        value = json.loads(
            text.removeprefix("\ufeff"), parse_constant=_no_number, parse_float=_finite, parse_int=_short,
            object_pairs_hook=_once,
        )  # fmt: skip
    except json.JSONDecodeError as error:
        raise DataError(f"is not valid JSON: {error.msg} in line {error.lineno}; correct it", path) from error
    except RecursionError as error:
        raise DataError(f"is not valid JSON: nested too deeply, {MAX_DEPTH} levels are the most", path) from error
    except ValueError as error:
        raise DataError(f"is not valid JSON: {error}; correct it", path) from error
    _require_shallow(value, path)
    if "\\ud" in text.lower():
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            half = error.object[error.start].encode("ascii", "backslashreplace").decode()
            raise DataError(f"is not valid JSON: half a character ({half}); correct it", path) from error
    return value


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is no JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"the number {text[:40]} is too large")
    return number


def _short(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object, none of whose keys may come twice: the one meant to count could be either."""
    value = dict(pairs)
    if len(value) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"an object names the key {key[:80]!r} twice, take one out")
            seen.add(key)
    return value


def _require_shallow(value: Any, path: Path) -> None:
    """Refuse what is nested so deep that walking through it could end in an error of its own."""
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for item in level
            if isinstance(item, dict | list)
            for inner in (item.values() if isinstance(item, dict) else item)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    raise DataError(f"is nested too deeply, {MAX_DEPTH} levels are the most; correct it", path)


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises:
        DataError: As `read_json`, or the file holds something else.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise DataError(f"holds a JSON {type(value).__name__}, an object was expected", path)
    return value


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal.

    Raises:
        DataError: The file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise DataError("does not exist; restore it, or give another name", path) from error
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror or error})", path) from error


def hash_value(value: object) -> str:
    """Return the SHA-256 of a JSON-able value, independent of the order of its keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _new_file_mode() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


# Asked for once, here: the system tells the mask only to whom sets it, and of two threads that write files at once
# the second would be told the first one's 0, and leave it.
_MODE = _new_file_mode()
NEW_FOLDER_MODE = _MODE | (_MODE & 0o444) >> 2  # who may read a folder may enter it
