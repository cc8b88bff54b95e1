from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frugalseg.errors import DataError
from frugalseg.evaluation import CaseRow, read_cases_csv, score_case, write_cases_csv
from frugalseg.geometry import Grid

NAMES = st.text(st.characters(codec="utf-8", min_codepoint=32), min_size=1, max_size=12)
LENGTHS = st.floats(0.0, 1e12)
COUNTS = st.integers(0, 2**40)
SHARES = st.floats(0.0, 1.0)


SIZES = {
    "case": NAMES,
    "structure": NAMES,
    "tolerance_mm": LENGTHS,
    "voxels_truth": COUNTS,
    "voxels_prediction": COUNTS,
    "volume_truth_ml": LENGTHS,
    "volume_prediction_ml": LENGTHS,
    "voxels_ignored": COUNTS,
}
VALUES = {"dice": SHARES, "hd95_mm": LENGTHS, "surface_dice": SHARES, "assd_mm": LENGTHS}
ROWS = st.one_of(
    st.builds(CaseRow, status=st.sampled_from(("scored", "missed", "spurious")), **VALUES, **SIZES),
    st.builds(CaseRow, status=st.just("both_empty"), **dict.fromkeys(VALUES, st.none()), **SIZES),
    st.builds(
        CaseRow,
        status=st.just("not_annotated"),
        **{**SIZES, **dict.fromkeys((*VALUES, "voxels_truth", "volume_truth_ml"), st.none())},
    ),
)


@settings(max_examples=20, deadline=None)
@given(table=st.lists(ROWS, max_size=12))
def test_reads_back_what_was_written(tmp_path_factory: pytest.TempPathFactory, table: list[CaseRow]) -> None:
    path = tmp_path_factory.getbasetemp() / "cases.csv"
    write_cases_csv(path, table)
    assert read_cases_csv(path) == table


def example(path: Path) -> list[CaseRow]:
    truth, prediction = np.zeros((2, 6, 6, 6), bool)
    truth[1:4], prediction[2:5] = True, True
    grid = Grid((6, 6, 6), np.diag([0.7, 1.0, 1.0, 1.0]))
    masks = {"a, with comma": truth, 'quoted "b"': prediction, "none": ~(truth | ~truth)}
    table = score_case("case_001", masks, {**masks, "a, with comma": prediction}, grid, 1.0)
    write_cases_csv(path, table)
    return table


def test_is_plain_csv(tmp_path: Path) -> None:
    path = tmp_path / "cases.csv"
    table = example(path)
    assert read_cases_csv(path) == table
    assert [item.name for item in tmp_path.iterdir()] == ["cases.csv"]
    with path.open(newline="") as file:
        first, *others = csv.DictReader(file)
    assert first["structure"] == "a, with comma"
    assert float(first["hd95_mm"]) == table[0].hd95_mm
    assert [line["status"] for line in others] == ["scored", "both_empty", "scored"]
    assert others[1]["dice"] == ""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("case,structure", "case,organ", "has columns"),
        ("case,structure", "structure,case", "has columns"),
        (",scored,", ",perfect,", "line 2: status is 'perfect'; expected one of scored, missed"),
        (",both_empty,", ",scored,", "line 4: .*must be empty"),
        (",both_empty,", ",not_annotated,", "line 4: the truth's sizes must be empty"),
        (",0,0,0.0,0.0,0", ",,0,0.0,0.0,0", "line 4: the truth's sizes must be empty"),
        (",scored,", ",both_empty,", "line 2: .*must be empty"),
        (",scored,0.6666666666666666,", ",scored,1.5,", "can exceed 1"),
        (",scored,0.6666666666666666,", ",scored,nan,", "line 2: dice is 'nan'"),
        (",scored,0.6666666666666666,", ",scored,-0.5,", "line 2: dice is '-0.5'"),
        (",scored,0.6666666666666666,", ",scored,good,", "line 2: dice is 'good'; expected a number"),
        (",108,108,", ",108.5,108,", "line 2: voxels_truth is '108.5'; expected a whole number"),
        (",108,108,", ",108,", "line 2: 12 fields; expected 13"),
        ("case_001,", ",", "plain text"),
        ('"a, with', '"a" with', "line 2"),
    ],
)
def test_a_spoilt_file_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "cases.csv"
    example(path)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(DataError, match=message):
        read_cases_csv(path)


def test_missing_and_empty_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        read_cases_csv(tmp_path / "none.csv")
    (tmp_path / "empty.csv").touch()
    with pytest.raises(DataError, match="has columns"):
        read_cases_csv(tmp_path / "empty.csv")


def test_a_name_that_no_line_can_hold_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "cases.csv"
    table = example(path)
    bad = CaseRow("a\rb", "s", "both_empty", None, None, None, None, 1.0, 0, 0, 0.0, 0.0)
    with pytest.raises(DataError, match="plain text"):
        write_cases_csv(path, [*table, bad])
    assert read_cases_csv(path) == table
