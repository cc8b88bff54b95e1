from __future__ import annotations

from dataclasses import replace

import pytest

from frugalseg.evaluation import ANY_FOREGROUND, CaseRow, render, summarise
from tests.evaluation.test_summary import TABLE, row, unknown

EXPECTED = """\
structure          cases missed spurious empty  Dice    sd  95 % interval median   min  HD95 mm median sDice
--------------------------------------------------------------------------------------------------------------
all structures         4                     1 0.500 0.436 [0.000, 1.000]  0.700 0.000    18.00   2.00 0.250
a                      4      1        0     1 0.567 0.493 [0.000, 1.000]  0.800 0.000    17.67   2.00 0.283
b                      4      0        1     2 0.250 0.354 [0.000, 1.000]  0.250 0.000    26.50  26.50 0.125
(any foreground)       4      0        0     1 0.990 0.000 [0.990, 0.990]  0.990 0.990     2.00   2.00 0.495
--------------------------------------------------------------------------------------------------------------
Missed (only in the truth) or spurious (only in the prediction): Dice 0, surface Dice 0, distances = the
image's diagonal, counted. In neither: outside the means, counted apart as empty. Not annotated in a case:
outside the means, counted apart as n/a.
sDice: surface Dice at 1 mm. All structures: mean over cases of each case's mean. Any foreground: in no mean.
Volume, prediction less truth:
a                  +0.0 % in all, +0 ml a case, limits of agreement +0 to +0 ml
b                  +0.0 % in all, +0 ml a case, limits of agreement +0 to +0 ml
(any foreground)   +0.0 % in all, +0 ml a case, limits of agreement +0 to +0 ml
worst  case  c3                        Dice 0.000, HD95 50.00 mm, surface Dice 0.000
median case  c1                        Dice 0.700, HD95 2.00 mm, surface Dice 0.350
best   case  c2                        Dice 0.800, HD95 2.00 mm, surface Dice 0.400
"""


def test_table() -> None:
    assert render(summarise(TABLE)) == EXPECTED


def test_one_case_and_an_absent_structure() -> None:
    lines = render(summarise([row("c1", "a", 0.5), row("c1", "b", None)])).splitlines()
    a, b = lines[3], lines[4]
    assert a.split() == ["a", "1", "0", "0", "0", "0.500", "-", "-", "0.500", "0.500", "2.00", "2.00", "0.250"]
    assert b.split() == ["b", "1", "0", "0", "1"] + ["-"] * 8


IN_PART = """\
structure      cases missed spurious empty n/a  Dice    sd  95 % interval median   min  HD95 mm median sDice
--------------------------------------------------------------------------------------------------------------
all structures     2                     0     0.750 0.354 [0.000, 1.000]  0.750 0.500     2.00   2.00 0.375
a                  2      0        0     0   0 0.750 0.354 [0.000, 1.000]  0.750 0.500     2.00   2.00 0.375
b                  2      0        0     0   2     -     -              -      -     -        -      -     -
any foreground     2      0        0     0   2     -     -              -      -     -        -      -     -
--------------------------------------------------------------------------------------------------------------
"""


def test_what_was_not_annotated_has_a_column_and_what_is_ignored_a_line() -> None:
    table = [row("c1", "a", 0.5), row("c2", "a", 1.0)]
    table += [unknown(case, name) for case in ("c1", "c2") for name in ("b", ANY_FOREGROUND)]
    text = render(summarise(table))
    assert text.startswith(IN_PART)
    assert "Not annotated in a case" in text
    assert "Ignored" not in text
    text = render(summarise([replace(row, voxels_ignored=7 * (row.case == "c2")) for row in table]))
    assert "Ignored: 7 voxels in 1 of 2 cases" in text
    assert "n/a" not in EXPECTED.splitlines()[0]


@pytest.mark.parametrize("in_part", [False, True])
@pytest.mark.parametrize("name", ["a", "a" * 18, "b" * 200])
def test_fits_110_columns(name: str, in_part: bool) -> None:
    table = [
        CaseRow(f"{name}{number}", name, "scored", 1.0, 12345.678, 1.0, 1.0, 1 / 3, 1, 1, 1.0, 1.0, 10**12)
        for number in range(3)
    ]
    table += [replace(unknown(f"{name}0", "other"), tolerance_mm=1 / 3)] if in_part else []
    text = render(summarise(table, without_prediction=[f"{name}{number}" for number in range(99)]))
    assert max(map(len, text.splitlines())) <= 110
    assert "Without a prediction, counted as missed (99):" in text
    assert "surface Dice at 0.333333 mm" in text
