"""Reading and writing files so that nothing is lost and nothing is believed.

Writes go to a temporary file in the same folder, are flushed to the disk, and then renamed: a reader sees the
old file or the new one, never a half. Reads of text have a size limit and say in one line what is wrong.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from frugalseg.errors import DataError

MAX_TEXT_BYTES = 64 * 2**20
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
    data = text.encode("utf-8")

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
    finally:
        os.close(handle)


def read_text(path: Path, limit: int = MAX_TEXT_BYTES) -> str:
    """Read a text file in UTF-8.

    Raises:
        DataError: It is missing, too large (over `limit` bytes), not a file, or not UTF-8.
    """
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise DataError("is not a file", path)
        if size > limit:
            raise DataError(f"has {size} bytes, more than the {limit} that such a file may have", path)
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise DataError("does not exist", path) from error
    except UnicodeDecodeError as error:
        raise DataError(f"is not UTF-8 text (byte {error.start})", path) from error
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror or error})", path) from error


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        DataError: It is missing, unreadable, or not JSON; the line is named.
    """
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise DataError(f"is not valid JSON: {error.msg} in line {error.lineno}", path) from error
    except RecursionError as error:
        raise DataError("is not valid JSON: nested too deeply", path) from error
    except ValueError as error:  # a number of thousands of digits
        raise DataError(f"is not valid JSON: {error}", path) from error


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
        raise DataError("does not exist", path) from error
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
