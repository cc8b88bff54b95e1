"""Paired comparisons against scipy, and Holm's correction against a table worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from frugalseg.errors import DataError
from frugalseg.study.compare import holm, paired


def test_paired_equals_scipy() -> None:
    generator = np.random.default_rng(0)
    first, second = generator.normal(0.82, 0.05, (6, 20)), generator.normal(0.8, 0.05, (6, 20))
    found = paired(first, second)
    expected = stats.ttest_rel(first.mean(axis=1), second.mean(axis=1))
    assert found.p == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval()
    assert (found.interval.low, found.interval.high) == pytest.approx((interval.low, interval.high))
    apart = first.mean(axis=1) - second.mean(axis=1)
    assert found.effect == pytest.approx(apart.mean() / apart.std(ddof=1))
    assert found.wins == (apart > 0).sum()


def test_by_hand() -> None:
    found = paired(np.array([[0.9, 0.7], [0.8, 0.8]]), np.array([[0.8, 0.6], [0.8, 0.6]]))
    assert found.differences == pytest.approx((0.1, 0.1))
    assert found.difference == pytest.approx(0.1)
    assert (found.p, found.effect, found.wins) == (0.0, np.inf, 2)


def test_a_case_without_a_score_in_both_counts_for_neither() -> None:
    found = paired(np.array([[0.9, np.nan]]), np.array([[0.8, np.nan]]))
    assert found.difference == pytest.approx(0.1)
    assert (found.p, found.effect) == (None, None)


def test_finding_something_where_nothing_is_costs_what_it_costs() -> None:
    clean, found_something = np.array([[0.8, np.nan]]), np.array([[0.8, 0.0]])
    assert paired(clean, found_something).difference == pytest.approx(0.5)
    assert paired(found_something, clean).difference == pytest.approx(-0.5)
    far = paired(np.array([[2.0, 40.0]]), np.array([[2.0, np.nan]]), perfect=0.0)  # HD95, mm
    assert far.difference == pytest.approx(20)


def test_swapping_changes_the_sign_alone() -> None:
    generator = np.random.default_rng(1)
    first, second = generator.random((5, 9)), generator.random((5, 9))
    one, other = paired(first, second), paired(second, first)
    assert one.difference == pytest.approx(-other.difference)
    assert one.p == pytest.approx(other.p)
    assert (one.interval.low, one.interval.high) == pytest.approx((-other.interval.high, -other.interval.low))


def test_equal_tables_differ_by_nothing() -> None:
    table = np.random.default_rng(2).random((4, 5))
    assert paired(table, table).p == 1.0


def test_other_tables_are_refused() -> None:
    with pytest.raises(DataError, match=r"not \(2, 3\) and \(2, 4\)"):
        paired(np.zeros((2, 3)), np.zeros((2, 4)))


def test_holm_by_hand() -> None:
    # Sorted: 0.005 x 4, 0.01 x 3, 0.03 x 2, 0.04 x 1 made no smaller than the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
    assert holm([0.02]) == [0.02]
