"""What was declared counts in the correction from the first look on, whether its runs are there or not."""

from __future__ import annotations

import pytest

from frugalseg.study.design import make_design
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
