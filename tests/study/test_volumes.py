"""Volumes by label set, by hand; what does not count; and what the page says of runs on two devices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from frugalseg.files import write_json
from frugalseg.formats import seal
from frugalseg.study.design import Design, make_design
from frugalseg.study.table import Row
from frugalseg.study.took import took
from frugalseg.study.volumes import volume_bias, volume_table


def row(seed: int, case: str, truth: float | str, made: float, status: str = "scored") -> Row:
    return {
        "method": "encdec", "labels": "1", "seed": str(seed), "case": case, "structure": "a", "status": status,
        "volume_truth_ml": str(truth), "volume_prediction_ml": str(made),
    }  # fmt: skip


ROWS = [
    row(0, "c1", 1.0, 1.2),
    row(0, "c2", 3.0, 3.2),
    row(0, "c3", 0.0, 0.0, "both_empty"),
    row(0, "c4", "", 9.0, "not_annotated"),
    row(1, "c1", 1.0, 0.0, "missed"),
    row(1, "c2", 3.0, 3.0),
]


def design() -> Design:
    return make_design(["encdec"], ["1", "2"], (0, 1, 2), 4, floor=None, ceiling=False)


def test_by_hand() -> None:
    assert volume_bias(ROWS, "encdec", 1, "a") == pytest.approx([10.0, -25.0])
    assert volume_bias(ROWS, "encdec", 2, "a") == []
    assert volume_bias([row(0, "c1", 0.0, 1.0, "spurious")], "encdec", 1, "a") == []
    # 10 and -25: mean -7.5, standard deviation 35 / sqrt(2)
    assert volume_table(ROWS, design()) == [("a", "encdec", ["-7.5 ± 24.7", "-"])]


def cell(folder: Path, name: str, labels: int, minutes: float, **more: Any) -> None:
    facts = {
        "format_version": 1, "error": None, "labels": labels, "training_seconds": 60 * minutes,
        "seconds": 60 * (minutes + 1), "machine": {"device": "cpu"}, **more,
    }  # fmt: skip
    (folder / "cells" / name).mkdir(parents=True)
    write_json(folder / "cells" / name / "cell.json", seal(facts))


def test_minutes_are_medians_and_devices_are_named(tmp_path: Path) -> None:
    cell(tmp_path, "encdec-1-0", 1, 10)
    cell(tmp_path, "encdec-1-1", 1, 15, machine={"device": "Some GPU"})
    cell(tmp_path, "encdec-1-2", 1, 90)
    cell(tmp_path, "encdec-2-0", 2, 7)
    cell(tmp_path, "encdec-2-1", 2, 99, error="it failed")
    found = took(tmp_path, design())
    assert found["encdec", 1].describe() == "15 (16), Some GPU and cpu"
    assert found["encdec", 2].describe() == "7 (8), cpu"
    assert took(tmp_path / "nothing", design()) == {}
