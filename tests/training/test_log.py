"""Logs: what is written reads back, and a resumed run drops what it will write again."""

from __future__ import annotations

import csv
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from frugalseg.training.log import TENSORBOARD_EVERY, CsvLog, Log


def rows(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_values_and_gaps(tmp_path: Path) -> None:
    log = CsvLog(tmp_path / "a.csv", ["loss", "dice.left, part"], 0)
    log.write(1, {"loss": 0.1, "dice.left, part": math.nan})
    log.write(2, {"loss": 1 / 3, "not a column": 5})
    log.write(3, {"loss": 1.5e-9, "dice.left, part": math.inf})
    log.close()
    assert rows(tmp_path / "a.csv")[1:] == [["1", "0.1", ""], ["2", "0.3333333", ""], ["3", "1.5e-09", "inf"]]


def test_a_flush_shows_the_rows(tmp_path: Path) -> None:
    log = CsvLog(tmp_path / "a.csv", ["loss"], 0)
    log.write(1, {"loss": 2})
    log.flush()
    assert (tmp_path / "a.csv").read_text() == "step,loss\n1,2\n"
    log.close()


def test_going_on_keeps_whole_rows_up_to_the_step(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("step,loss\n1,0.5\n2,\nx,3\n-1,3\n3,0.25\n4,0.125\n2")  # the last one torn
    log = CsvLog(path, ["loss"], 3)
    log.write(4, {"loss": 7})
    log.close()
    assert path.read_text() == "step,loss\n1,0.5\n2,\n3,0.25\n4,7\n"


def test_a_torn_row_of_a_step_that_counts_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("step,loss\n1,0.5\n2,0.2")
    CsvLog(path, ["loss"], 2).close()
    assert path.read_text() == "step,loss\n1,0.5\n"


def test_from_the_start_nothing_is_kept(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("step,loss\n1,0.5\n")
    CsvLog(tmp_path / "a.csv", ["loss"], 0).close()
    assert (tmp_path / "a.csv").read_text() == "step,loss\n"


def test_an_interrupted_log_goes_on_to_the_bytes_of_an_undisturbed_one(tmp_path: Path) -> None:
    def go(folder: Path, first: int, last: int) -> None:
        with Log(folder, ["loss"], first - 1, tensorboard=False) as log:
            for step in range(first, last + 1):
                log.write(step, {"loss": 1 / step}, seconds=step, waiting=0)

    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    go(tmp_path / "a", 1, 9)
    go(tmp_path / "b", 1, 6)
    go(tmp_path / "b", 5, 9)  # from the checkpoint of step 4
    for name in ("metrics.csv", "timing.csv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_times_stay_out_of_what_a_second_run_repeats(tmp_path: Path) -> None:
    with Log(tmp_path, ["loss"], 0, tensorboard=False) as log:
        log.write(1, {"loss": 4}, seconds=0.5, waiting=0.125)
    assert rows(tmp_path / "metrics.csv") == [["step", "loss"], ["1", "4"]]
    assert rows(tmp_path / "timing.csv") == [["step", "seconds", "waiting"], ["1", "0.5", "0.125"]]


def test_tensorboard_gets_every_tenth_step_and_no_nan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, float, int]] = []
    made: list[tuple[str, int]] = []

    class Writer:
        def __init__(self, folder: str, purge_step: int) -> None:
            made.append((folder, purge_step))

        def add_scalar(self, name: str, value: float, step: int) -> None:
            told.append((name, value, step))

        def flush(self) -> None:
            told.append(("flush", 0, 0))

        def close(self) -> None:
            told.append(("close", 0, 0))

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=Writer))
    with Log(tmp_path, ["cpc.info_nce", "dice.a.b"], 5) as log:
        for step in range(6, 2 * TENSORBOARD_EVERY + 1):
            log.write(step, {"cpc.info_nce": step / 10, "dice.a.b": math.nan if step == 10 else 1}, 0, 0)
        log.flush()
    assert made == [(str(tmp_path / "tensorboard"), 6)]
    assert told == [
        ("cpc/info_nce", 1.0, 10),
        ("cpc/info_nce", 2.0, 20),
        ("dice/a.b", 1, 20),
        ("flush", 0, 0),
        ("close", 0, 0),
    ]
