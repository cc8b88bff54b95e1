"""The time of a cell is that of all its sittings."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from frugalseg.errors import DataError
from frugalseg.study import cell as cells
from frugalseg.study.cell import CELL, Task, run_cell
from frugalseg.study.spent import SPENT, Clock


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that a clock reads, to be set."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def task_in(folder: Path) -> Task:
    folder.mkdir(exist_ok=True)
    return Task(folder, "0" * 64, folder, None, "encdec", 6, 0, (), True)


def test_what_was_kept_is_added(tmp_path: Path, watch: list[float]) -> None:
    first = Clock(tmp_path)
    watch[0] += 60
    first.keep()
    watch[0] += 10_000  # nobody was at it
    second = Clock(tmp_path)
    watch[0] += 5
    assert second.seconds == 65
    second.drop()
    assert Clock(tmp_path).seconds == 0


def test_a_damaged_note_is_named(tmp_path: Path) -> None:
    Clock(tmp_path).keep()
    facts = json.loads((tmp_path / SPENT).read_text())
    (tmp_path / SPENT).write_text(json.dumps({**facts, "seconds": 1e9}))
    with pytest.raises(DataError, match="damaged or was changed"):
        Clock(tmp_path)


def test_a_stopped_and_a_failed_sitting_count(
    tmp_path: Path, watch: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    ends: list[tuple[float, BaseException | None]] = [
        (600.0, KeyboardInterrupt()),
        (30.0, OSError("disk is full")),
        (7.0, None),
    ]

    def sitting(task: Task, clock: Clock) -> dict[str, Any]:
        seconds, end = ends.pop(0)
        watch[0] += seconds
        if end is not None:
            raise end
        return {"dice": 0.5}

    monkeypatch.setattr(cells, "_run", sitting)
    with pytest.raises(KeyboardInterrupt):
        run_cell(task_in(tmp_path / "cell"))
    assert not (tmp_path / "cell" / CELL).exists()
    assert run_cell(task_in(tmp_path / "cell")).seconds == 630
    done = run_cell(task_in(tmp_path / "cell"))
    assert (done.seconds, done.error) == (637, None)
    assert json.loads((tmp_path / "cell" / CELL).read_text())["seconds"] == 637
    assert not (tmp_path / "cell" / SPENT).exists()
