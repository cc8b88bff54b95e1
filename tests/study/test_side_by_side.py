"""The same study in two processes, one of them killed in the middle: the same table; a stop saves both."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from frugalseg.study import cell as cells
from frugalseg.study.cell import Interrupted, Outcome, Task
from frugalseg.study.side_by_side import RETRIES, _received, _serve, side_by_side
from frugalseg.study.spent import SPENT, Clock
from tests.study.deaths import dies_before_it_reads, dies_of_the_first
from tests.study.micro import micro_data, micro_design, micro_study

DRIVER = """
import sys
from pathlib import Path
from frugalseg.study.side_by_side import side_by_side
from frugalseg.study.run import study
from tests.study.micro import LENGTH, OVERRIDES, micro_design

if __name__ == "__main__":
    data, out, store = map(Path, sys.argv[1:])
    print(study(data, out, micro_design((0,)), LENGTH, OVERRIDES, store, mapper=side_by_side(2)))
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return micro_data(tmp_path_factory.mktemp("data") / "phantoms")


@pytest.fixture(scope="module")
def table(data: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The table of one process."""
    place = tmp_path_factory.mktemp("alone")
    micro_study(data, place / "study", place / "store", micro_design((0,)))
    return (place / "study" / "cells.csv").read_bytes()


def start(tmp_path: Path, data: Path, out: Path) -> subprocess.Popen[str]:
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    paths = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, script, data, out, tmp_path / "store"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
    )


def trainers(out: Path, driver: subprocess.Popen[str]) -> set[int]:
    """Return the processes that are at a cell now."""
    found = set()
    for lock in out.glob("cells/*/run/.lock"):
        try:
            number = int(lock.read_text().split('"process":')[1].split(",")[0])
        except (OSError, IndexError, ValueError):
            continue
        if number != driver.pid and not (lock.parent.parent / "cell.json").exists():
            found.add(number)
    return found


def wait_for_trainers(out: Path, driver: subprocess.Popen[str]) -> set[int]:
    begun = time.monotonic()
    while time.monotonic() - begun < 100 and driver.poll() is None:
        if found := trainers(out, driver):
            return found
        time.sleep(0.005)
    raise AssertionError("no cell was begun")


def test_two_processes_one_killed_give_the_table_of_one_process(data: Path, table: bytes, tmp_path: Path) -> None:
    out = tmp_path / "beside"
    process = start(tmp_path, data, out)
    os.kill(wait_for_trainers(out, process).pop(), signal.SIGKILL)
    told, _ = process.communicate(timeout=300)
    assert "done=5, failed=()" in told
    assert (out / "cells.csv").read_bytes() == table


def test_a_signal_is_passed_on_and_the_study_goes_on_later(data: Path, table: bytes, tmp_path: Path) -> None:
    out = tmp_path / "beside"
    process = start(tmp_path, data, out)
    found = wait_for_trainers(out, process)
    process.terminate()
    process.communicate(timeout=100)
    assert process.returncode != 0
    assert not any(Path(f"/proc/{number}").exists() for number in found)
    process = start(tmp_path, data, out)
    told, _ = process.communicate(timeout=300)
    assert "done=5, failed=()" in told
    assert (out / "cells.csv").read_bytes() == table


def test_nobody_is_left_behind_by_a_study_that_is_killed(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "beside"
    process = start(tmp_path, data, out)
    found = wait_for_trainers(out, process)
    process.kill()
    process.communicate(timeout=100)
    begun = time.monotonic()
    while any(Path(f"/proc/{number}").exists() for number in found):
        assert time.monotonic() - begun < 30, "a process goes on by itself"
        time.sleep(0.1)
    assert len(list(out.glob("cells/*/cell.json"))) < 5


def scores_for_long(pipe: Connection) -> None:
    """Serve cells that are beyond their training, where no checkpoint is to be saved any more."""

    def scoring(task: Task, clock: Clock) -> dict[str, object]:
        (task.folder / "scoring").touch()
        time.sleep(60)
        return {}

    cells._run = scoring
    _serve(pipe)


def test_a_cell_that_is_stopped_while_it_scores_keeps_its_time(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=scores_for_long, args=(theirs,))
    process.start()
    theirs.close()
    (tmp_path / "one").mkdir()
    ours.send(Task(tmp_path / "one", "key", tmp_path, None, "encdec", 1, 1, (), False))
    begun = time.monotonic()
    while not (tmp_path / "one" / "scoring").exists():
        assert time.monotonic() - begun < 100
        time.sleep(0.05)
    process.terminate()
    assert ours.poll(30)
    assert isinstance(ours.recv(), Interrupted)
    assert (tmp_path / "one" / SPENT).exists()
    ours.close()
    process.join(30)
    assert process.exitcode == 0


def test_an_answer_that_nobody_read_is_no_error() -> None:
    ours, theirs = Pipe()
    theirs.send("an answer")
    ours.close()
    assert list(_received(theirs)) == []  # the system says that the connection was reset, not that it ended


def test_a_process_that_dies_before_it_has_read_its_task(tmp_path: Path) -> None:
    done: list[Outcome] = []
    tasks = [Task(tmp_path / "one", "key", tmp_path, None, "encdec", 1, 1, (), False)]
    side_by_side(1, dies_before_it_reads)(tasks, done.append)
    assert "its process died" in (done[0].error or "")


def test_a_cell_whose_process_dies_every_time_fails_alone(tmp_path: Path) -> None:
    tasks = [
        Task(tmp_path / name, "key", tmp_path, None, "encdec", 1, seed, (), False)
        for seed, name in enumerate(("zero", "one", "two"))
    ]
    done: list[Outcome] = []
    side_by_side(1, dies_of_the_first)(tasks, done.append)
    assert [outcome.folder.name for outcome in done] == ["zero", "one", "two"]
    assert [outcome.dice for outcome in done] == [0.5, None, 0.5]
    assert f"its process died {RETRIES + 1} times (the last time with exit status -9)" in (done[1].error or "")
