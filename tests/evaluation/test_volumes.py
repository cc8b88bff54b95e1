"""Bias of volumes and limits of agreement: by hand, against an independent way, and what they must not count."""

from __future__ import annotations

import numpy as np
import pytest

from frugalseg.evaluation import CaseRow
from frugalseg.evaluation.table import Status
from frugalseg.evaluation.volumes import agreement


def row(case: str, truth: float | None, prediction: float, status: Status = "scored") -> CaseRow:
    score = None if status in ("both_empty", "not_annotated") else 0.5
    voxels = None if truth is None else round(1000 * truth)
    return CaseRow(
        case, "a", status, score, score, score, score, 1.0, voxels, round(1000 * prediction), truth, prediction
    )


def test_by_hand() -> None:
    found = agreement([row("c1", 1.0, 1.5), row("c2", 2.0, 2.0), row("c3", 3.0, 3.4)])
    assert found is not None
    assert (found.n, found.truth_ml, found.prediction_ml) == (3, 6.0, 6.9)
    assert found.bias_percent == pytest.approx(15.0)
    assert found.difference_ml == pytest.approx(0.3)
    spread = (((0.5 - 0.3) ** 2 + 0.3**2 + (0.4 - 0.3) ** 2) / 2) ** 0.5
    assert (found.low_ml, found.high_ml) == pytest.approx((0.3 - 1.96 * spread, 0.3 + 1.96 * spread))
    assert found.describe() == "+15.0 % in all, +0.3 ml a case, limits of agreement -0.219 to +0.819 ml"


def test_a_missed_or_spurious_structure_counts_with_a_volume_of_0() -> None:
    found = agreement([row("c1", 2.0, 0.0, "missed"), row("c2", 0.0, 1.0, "spurious")])
    assert found is not None
    assert found.difference_ml == pytest.approx(-0.5)
    assert found.bias_percent == pytest.approx(-50.0)
    nowhere = agreement([row("c1", 0.0, 1.0, "spurious")])
    assert nowhere is not None
    assert nowhere.bias_percent is None  # of nothing there is no share
    assert nowhere.describe() == "+1 ml a case"


def test_what_is_in_neither_or_was_not_annotated_does_not_count() -> None:
    known = [row("c1", 1.0, 1.2), row("c2", 1.0, 1.4)]
    more = [*known, row("c3", 0.0, 0.0, "both_empty"), row("c4", None, 7.0, "not_annotated")]
    assert agreement(more) == agreement(known)
    assert agreement(more[2:]) is None
    assert agreement([]) is None


def test_limits_hold_about_95_of_100_cases_and_order_does_not_matter() -> None:
    generator = np.random.default_rng(1)
    truth = generator.uniform(5, 50, 4000)
    rows = [row(f"c{n}", t, t + d) for n, (t, d) in enumerate(zip(truth, generator.normal(0.4, 1.5, 4000)))]
    found = agreement(rows)
    assert found is not None
    assert found.low_ml is not None
    assert found.high_ml is not None
    within = np.mean(
        [found.low_ml < one.volume_prediction_ml - (one.volume_truth_ml or 0) < found.high_ml for one in rows]
    )
    assert within == pytest.approx(0.95, abs=0.01)
    again = agreement(rows[::-1])
    assert again is not None
    assert again.bias_percent == pytest.approx(found.bias_percent)


def test_large_volumes_are_written_out() -> None:
    found = agreement([row("c1", 1000.0, 2500.0)])
    assert found is not None
    assert found.describe() == "+150.0 % in all, +1500 ml a case"
