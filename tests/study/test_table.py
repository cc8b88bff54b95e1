"""The table of cells, and the tables of scores that are cut from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from frugalseg.errors import DataError
from frugalseg.study.design import Cell
from frugalseg.study.table import read_cells, scores, seeds_of, structures_of, write_cells

HEAD = "case,structure,status,dice,hd95_mm\n"


@pytest.fixture
def rows(tmp_path: Path) -> list[dict[str, str]]:
    cells = []
    for seed, dice in ((0, 0.8), (3, 0.6)):
        cell = Cell("encdec", 6, seed)
        folder = tmp_path / cell.name
        folder.mkdir()
        lines = f"a,front,scored,{dice},1\na,back,scored,{dice - 0.2:.1f},3\na,any_foreground,scored,1,0\n"
        (folder / "cases.csv").write_text(HEAD + lines + "b,front,both_empty,,\nb,back,scored,0.5,2\n")
        cells.append((cell, folder))
    write_cells(tmp_path / "cells.csv", cells)
    return read_cells(tmp_path / "cells.csv")


def test_a_case_is_the_mean_of_its_counted_structures(rows: list[dict[str, str]]) -> None:
    np.testing.assert_allclose(scores(rows, "encdec", 6, (0, 3), "dice"), [[0.7, 0.5], [0.5, 0.5]])
    np.testing.assert_allclose(scores(rows, "encdec", 6, (3,), "hd95_mm"), [[2, 2]])


def test_one_structure_has_no_score_where_it_is_in_neither(rows: list[dict[str, str]]) -> None:
    np.testing.assert_allclose(scores(rows, "encdec", 6, (0, 3), "dice", "front"), [[0.8, np.nan], [0.6, np.nan]])


def test_what_is_there(rows: list[dict[str, str]]) -> None:
    assert structures_of(rows) == ("front", "back")
    assert seeds_of(rows, "encdec", 6) == (0, 3)
    assert seeds_of(rows, "encdec", 3) == ()
    with pytest.raises(DataError, match="no score of encdec with 6 labels of label set 1"):
        scores(rows, "encdec", 6, (0, 1), "dice")


def test_tables_with_other_columns_are_not_joined(tmp_path: Path) -> None:
    for name, text in (("encdec-6-0", HEAD + "a,b,scored,1,1\n"), ("encdec-6-1", "case,other\na,1\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "cases.csv").write_text(text)
    cells = [(Cell("encdec", 6, seed), tmp_path / f"encdec-6-{seed}") for seed in (0, 1)]
    with pytest.raises(DataError, match="other columns"):
        write_cells(tmp_path / "cells.csv", cells)
