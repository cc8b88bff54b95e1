"""One process in a folder, and no lock left by a dead one, its children included."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from frugalseg.errors import DataError, UserError
from frugalseg.training.lock import NAME, FolderLock, is_locked


def test_a_second_one_is_refused_with_the_first_ones_name(tmp_path: Path) -> None:
    with FolderLock(tmp_path / "run") as lock:
        assert lock.held
        assert is_locked(tmp_path / "run")
        with pytest.raises(UserError, match=rf"in use by process {os.getpid()} on .* since 20"):
            FolderLock(tmp_path / "run").__enter__()
        assert is_locked(tmp_path / "run"), "the refused one must not take the lock away"
    assert not is_locked(tmp_path / "run")
    with FolderLock(tmp_path / "run"):
        pass


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_killed_process_leaves_no_lock_although_its_child_lives_on(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    parent = os.fork()
    if parent == 0:  # a run that holds the lock, and its loader worker
        FolderLock(tmp_path).__enter__()
        worker = os.fork()
        if worker == 0:
            os.write(writing, f"{os.getpid()}\n".encode())
            time.sleep(60)
        time.sleep(60)
        os._exit(0)
    worker = int(os.read(reading, 32))
    try:
        assert is_locked(tmp_path)
        os.kill(parent, signal.SIGKILL)
        os.waitpid(parent, 0)
        os.kill(worker, 0)  # the worker is there
        assert not is_locked(tmp_path)
        with FolderLock(tmp_path):
            pass
    finally:
        os.kill(worker, signal.SIGKILL)
        os.close(reading)
        os.close(writing)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_that_ends_does_not_give_the_lock_back(tmp_path: Path) -> None:
    with FolderLock(tmp_path) as lock:
        child = os.fork()
        if child == 0:
            lock.__exit__()
            os._exit(0)
        os.waitpid(child, 0)
        assert is_locked(tmp_path)


def test_a_file_in_the_way_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written to"):
        FolderLock(tmp_path / "file" / "run").__enter__()


def test_a_damaged_lock_file_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"\xff{")
    with FolderLock(tmp_path), pytest.raises(UserError, match="in use by"):
        FolderLock(tmp_path).__enter__()
