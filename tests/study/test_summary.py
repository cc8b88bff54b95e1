"""What was declared counts in the correction from the first look on, whether its runs are there or not."""

from __future__ import annotations

import pytest

from frugalseg.study.design import make_design
from frugalseg.study.report import describe, incomplete, score_table
from frugalseg.study.summary import summarise
from frugalseg.study.table import Row

GAINS = (0.010, 0.014, 0.020, 0.012, 0.017)


def rows_of(labels: int, gains: tuple[float, ...]) -> list[Row]:
    """Two cases of one structure, `sscpcseg` better than `encdec` by the gains of the label sets."""
    found = []
    for seed, gain in enumerate(gains):
        for method, more in (("encdec", 0.0), ("sscpcseg", gain)):
            for case, dice in (("a", 0.7), ("b", 0.8)):
                row = {"method": method, "labels": str(labels), "seed": str(seed), "case": case, "structure": "one"}
                measured = {"dice": dice + more, "hd95_mm": 2, "surface_dice": 0.9, "assd_mm": 0.5}
                found.append(row | {name: str(value) for name, value in measured.items()})
    return found


def test_declared_comparisons_without_runs_count() -> None:
    design = make_design(["sscpcseg"], ["3", "6", "12"], range(5), 20, primary=["sscpcseg:encdec"])
    early = summarise(rows_of(3, GAINS), design).comparisons
    (one,) = [found for found in early if found.primary]
    assert one.result.p is not None
    assert one.result.p < 0.01
    assert one.adjusted == pytest.approx(3 * one.result.p)
    late = summarise([row for labels in (3, 6, 12) for row in rows_of(labels, GAINS)], design).comparisons
    assert [found.adjusted for found in late if found.primary] == pytest.approx([3 * one.result.p] * 3)


def test_a_single_label_set_gives_no_p_and_counts_too() -> None:
    design = make_design(["sscpcseg"], ["3", "6"], range(5), 20, primary=["sscpcseg:encdec"])
    found = summarise(rows_of(3, GAINS) + rows_of(6, GAINS[:1]), design).comparisons
    first, second = (one for one in found if one.primary)
    assert first.adjusted == pytest.approx(2 * (first.result.p or 0))
    assert second.result.p is None
    assert second.adjusted is None


def test_a_structure_that_nobody_could_score_is_left_out() -> None:
    """A rare structure is in no truth, one label set rightly finds none of it: the others still have a mean."""
    rows = rows_of(3, GAINS)
    rare = [row | {"structure": "two", "dice": "0.0" if row["seed"] == "0" else ""} for row in rows_of(3, GAINS)]
    never = [row | dict.fromkeys(("dice", "hd95_mm", "surface_dice", "assd_mm"), "") for row in rows]
    never = [row | {"structure": "three"} for row in never]
    design = make_design(["sscpcseg"], ["3"], range(5), 20)
    found = summarise([*rows, *rare, *never], design)
    point = found.point("sscpcseg", 3, "dice", "two")
    assert point is not None
    assert point.seeds == (0,)
    assert found.point("sscpcseg", 3, "dice", "three") is None
    assert "(1 of 5 sets)" in describe(point, 3, 5)
    assert describe(None, 3, 5) == "-"


def test_runs_that_failed_are_told_wherever_a_mean_is() -> None:
    """The method that fails where it is hard has the higher mean, and is no better."""
    rows = [row for row in rows_of(3, GAINS) if (row["method"], row["seed"]) != ("sscpcseg", "4")]
    design = make_design(["sscpcseg"], ["3"], range(5), 20, primary=["sscpcseg:encdec"])
    found = summarise(rows, design)
    (one,) = found.comparisons
    assert one.verdict.endswith("; 1 of 5 label sets have no score")
    assert incomplete(found, design)
    ((_, [cell]),) = [row for row in score_table(found, design, "dice") if row[0] == "sscpcseg"]
    assert cell.endswith("(4 of 5 sets)")
    whole = summarise(rows_of(3, GAINS), design)
    assert not incomplete(whole, design)
    assert "of 5 sets" not in str(score_table(whole, design, "dice"))
    assert "no score" not in whole.comparisons[0].verdict


def test_all_labels_are_one_label_set_however_often_it_is_trained() -> None:
    design = make_design(["sscpcseg"], ["3", "20"], range(5), 20, primary=["sscpcseg:encdec"])
    found = summarise(rows_of(3, GAINS) + rows_of(20, GAINS), design).comparisons
    few, every = (one for one in found if one.primary)
    assert few.adjusted == pytest.approx(2 * (few.result.p or 0))  # the other one counts with 1
    assert every.adjusted is None
    assert every.verdict.startswith("all labels: one label set")
