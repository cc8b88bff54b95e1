"""A full disk and a folder that cannot be written to: one line, and the last good state as it was."""

from __future__ import annotations

import errno
import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from frugalseg.data.store import write_array
from frugalseg.errors import DataError, UserError
from frugalseg.files import hash_file, write_text
from frugalseg.training import loop as looping
from frugalseg.training.seal import find_intact
from tests.faults.micro import STEPS, differences, micro_data, micro_run


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    micro_data(folder / "data")
    micro_run(folder / "data", folder / "whole", folder / "store")
    return folder


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 160 MiB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if (
        sys.platform != "linux"
        or os.geteuid() != 0
        or mount("-t", "tmpfs", "-o", "size=160m", "tmpfs", str(folder))
    ):
        pytest.skip("a small file system cannot be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def mount(*arguments: str) -> int:
    return subprocess.run(["mount", *arguments], check=False, capture_output=True).returncode


def fill(folder: Path, leave: int) -> Path:
    """Fill the disk but for `leave` bytes."""
    facts = os.statvfs(folder)
    (folder / "filler").write_bytes(b"\0" * (facts.f_bavail * facts.f_frsize - leave))
    return folder / "filler"


def stopped_after(steps: int, place: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a run that was interrupted after so many steps."""
    original = looping.Loop.step

    def step(self: looping.Loop, number: int, batch: object) -> dict[str, float]:
        if number == steps:
            raise KeyboardInterrupt
        return original(self, number, batch)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(looping.Loop, "step", step)
        with pytest.raises(KeyboardInterrupt):
            micro_run(place / "data", run, place / "store")


@pytest.mark.parametrize("leave", [0, 3_000_000, 20_000_000])
def test_a_full_disk(leave: int, place: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = small_disk / "run"
    stopped_after(3, place, run, monkeypatch)
    filler = fill(small_disk, leave)
    with pytest.raises(DataError) as caught:
        micro_run(place / "data", run, place / "store")
    assert "written" in str(caught.value)
    found = find_intact(run / "last")
    assert found is not None
    assert found.facts["step"] >= 3
    filler.unlink()
    assert micro_run(place / "data", run, place / "store").step == STEPS
    assert differences(place / "whole", run) == []


def test_a_full_disk_under_the_store(place: Path, small_disk: Path, tmp_path: Path) -> None:
    fill(small_disk, 10_000)
    with pytest.raises(UserError, match=r"cannot be written|are needed on this disk"):
        micro_run(place / "data", tmp_path / "run", small_disk / "store")
    left = [path for path in (small_disk / "store").rglob("*") if path.name.startswith(".tmp-")]
    assert left == []
    assert not (tmp_path / "run" / "run.json").exists()


def test_a_read_only_file_system(place: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = small_disk / "run"
    stopped_after(2, place, run, monkeypatch)
    gc.collect()  # closes what the interrupted run had open
    assert mount("-o", "remount,ro", str(small_disk)) == 0
    before = hash_file(run / "last" / "state.safetensors")
    for out in (run, small_disk / "new"):
        with pytest.raises(UserError, match=r"cannot be written to \(Read-only file system\)"):
            micro_run(place / "data", out, place / "store")
    assert hash_file(run / "last" / "state.safetensors") == before


@pytest.mark.parametrize("call", [1, 3, 5, 9, 14, 23])
def test_no_room_at_any_flush(call: int, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a disk of its own: the system refuses the flush number `call` and all later ones."""
    original, calls = os.fsync, 0

    def fsync(handle: int) -> None:
        nonlocal calls
        calls += 1
        if calls >= call:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original(handle)

    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(DataError, match="No space left on device"):
            micro_run(place / "data", run, place / "store")
    assert micro_run(place / "data", run, place / "store").step == STEPS
    assert differences(place / "whole", run) == []


def test_a_refused_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f.txt"
    write_text(path, "old")

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match="No space left"):
        write_text(path, "new")
    assert [file.name for file in tmp_path.iterdir()] == ["f.txt"]
    assert path.read_text() == "old"


def test_what_blosc2_says_of_a_full_disk_is_one_line(small_disk: Path) -> None:
    fill(small_disk, 10_000)
    with pytest.raises(DataError, match=r"cannot be written \(.*0 MiB are free there\)"):
        write_array(small_disk / "a.b2nd", np.random.default_rng(0).random((1, 64, 64, 64), np.float32))
