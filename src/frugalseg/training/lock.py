"""One process at a time in a run's folder, by a lock that the system takes back when the process dies.

RUN/.lock is locked with `flock` (`msvcrt.locking` on Windows); the file stays, the lock does not. Loader workers
are forked and would keep the lock of a killed parent for seconds: they close their copy at once. On network file
systems the lock holds between machines where the system carries locks over (NFS since Linux 2.6.12, SMB); where it
refuses them, the run goes on without and says so.
"""

from __future__ import annotations

import errno
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Self

from frugalseg.errors import DataError, UserError

NAME = ".lock"
_UNSUPPORTED = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}
_open_here: set[int] = set()


class FolderLock:
    """Held inside the `with` block.

    Args:
        folder: The run's folder; made if it is not there.

    Raises:
        UserError: Another process holds it; says which, where and since when.
        DataError: The folder cannot be written to.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._handle = -1
        self._process = os.getpid()
        self.held = False

    def __enter__(self) -> Self:
        path = self.folder / NAME
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise DataError(f"cannot be written to ({error.strerror or error})", self.folder) from error
        _open_here.add(self._handle)
        try:
            _lock(self._handle)
            self.held = True
        except OSError as error:
            owner = describe_owner(path)
            self._close()
            if error.errno not in _UNSUPPORTED:
                raise UserError(
                    f"is in use by {owner}; two runs cannot share a folder: wait for it, or choose another --out",
                    self.folder,
                ) from error
            print(
                f"{self.folder}: this file system has no locks; make sure that no other run uses the folder",
                file=sys.stderr,
            )
        else:
            self._write_owner()
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _write_owner(self) -> None:
        facts = {"process": os.getpid(), "host": platform.node(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        try:
            os.ftruncate(self._handle, 0)
            os.write(self._handle, json.dumps(facts).encode())
        except OSError:
            return  # a full disk; the lock itself holds

    def _close(self) -> None:
        if self._handle >= 0 and self._process == os.getpid():
            _open_here.discard(self._handle)
            os.close(self._handle)  # which gives the lock back
        self._handle, self.held = -1, False


def is_locked(folder: Path) -> bool:
    """Whether a process works in the folder now. Only looks: a folder that cannot be written to is not locked."""
    path = folder / NAME
    try:
        handle = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        _lock(handle)
    except OSError as error:
        return error.errno not in _UNSUPPORTED
    finally:
        os.close(handle)
    return False


def describe_owner(path: Path) -> str:
    """Return in words which process wrote the lock file."""
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        return f"process {facts['process']} on {facts['host']} since {facts['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def _lock(handle: int) -> None:
    if sys.platform == "win32":
        import msvcrt

        os.lseek(handle, 2**30, os.SEEK_SET)  # a byte far behind the content, which others may then read
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        finally:
            os.lseek(handle, 0, os.SEEK_SET)
    else:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _close_in_child() -> None:
    for handle in _open_here:
        os.close(handle)
    _open_here.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)
