"""Steps are timed as the cells will run: at once, each process with its share of the processors."""

from __future__ import annotations

import os
from multiprocessing import Pipe
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from frugalseg.errors import UserError
from frugalseg.jobs.resources import SHARE
from frugalseg.study import command
from frugalseg.study.command import run_study
from frugalseg.study.estimate import UNTRAINED, StepCost, measure_step
from frugalseg.study.side_by_side import environment_of
from frugalseg.study.timed import _answers, _time, timed_beside
from tests.study.micro import OVERRIDES, micro_data


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return micro_data(tmp_path_factory.mktemp("data") / "phantoms")


def test_two_at_once(data: Path, tmp_path: Path) -> None:
    timer = timed_beside(2)
    settings = [item for item in OVERRIDES if not item.startswith("auxiliary")]
    found = timer(data, "encdec", 2, 0, settings, tmp_path / "store")
    assert 0 < found.seconds < 60
    assert found.weight_bytes > 1000
    assert timer(data, "registration", 2, 0, [], tmp_path / "store") is UNTRAINED


class Barrier:
    """Counts how often it was told that nobody comes any more."""

    aborted = 0

    def abort(self) -> None:
        self.aborted += 1


def test_what_went_wrong_in_a_process_is_told_though_another_is_still_waiting() -> None:
    barrier = Barrier()
    waiting, _silent = Pipe()
    ours, theirs = Pipe()
    theirs.send(UserError("has no such case", "data"))
    with pytest.raises(UserError, match="data: has no such case"):
        _answers([waiting, ours], barrier)
    ours, theirs = Pipe()
    theirs.close()
    with pytest.raises(UserError, match="--processes: a process died"):
        _answers([waiting, ours], barrier)
    assert barrier.aborted == 2


def test_steps_are_timed_when_all_processes_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    class Meeting:
        def wait(self, _: float) -> None:
            order.append("all are there")

    def measured(*_: Any, begin: Any) -> StepCost:
        order.append("prepared")
        begin()
        order.append("timed")
        return StepCost(0.5, 1)

    monkeypatch.setattr("frugalseg.study.timed.measure_step", measured)
    ours, theirs = Pipe()
    _time(theirs, Meeting(), (Path(), "encdec", 1, 0, (), None))
    assert order == ["prepared", "all are there", "timed"]
    assert ours.recv() == StepCost(0.5, 1)


def test_each_process_has_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("frugalseg.study.side_by_side.usable_cpus", lambda: 8)
    assert environment_of(3, ["0", "1"], 4) == {SHARE: "4", "OMP_NUM_THREADS": "2", "CUDA_VISIBLE_DEVICES": "1"}
    assert environment_of(0, [], 16) == {SHARE: "16", "OMP_NUM_THREADS": "1"}
    monkeypatch.setitem(os.environ, "OMP_NUM_THREADS", "3")
    assert environment_of(0, [], 2) == {SHARE: "2"}


def test_a_study_with_processes_is_timed_so(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    timers: list[Any] = []

    def recorded(processes: int) -> str:
        asked.append(processes)
        return "the timer"

    def planned(*given: Any) -> SimpleNamespace:
        timers.append(given[-1])
        return SimpleNamespace(render=lambda: "a plan")

    monkeypatch.setattr("frugalseg.study.timed.timed_beside", recorded)
    monkeypatch.setattr(command, "plan", planned)
    for processes in (9, 1):
        run_study(
            data, None, ["encdec"], ["1"], "2", 3, None, "steps", [], None, False, OVERRIDES, True, True, processes,
            None, None,
        )  # fmt: skip
    assert asked == [2], "no more than there are cells"
    assert timers == ["the timer", measure_step]
