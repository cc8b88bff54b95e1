"""Intervals against scipy, naive loops, hand-worked numbers, and their promise: how often they hold the truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from frugalseg.errors import DataError
from frugalseg.evaluation.intervals import (
    Scores,
    bootstrap,
    draws,
    intervals,
    mean_score,
    resampled_means,
    set_means,
    t_interval,
    weighted_means,
)


def crossed(generator: np.random.Generator, sets: int, cases: int) -> Scores:
    """Scores with an effect of the label set, one of the case that all sets share, and noise; their mean is 0."""
    rows, columns = generator.normal(0, 0.02, (sets, 1)), generator.normal(0, 0.06, (1, cases))
    return np.asarray(rows + columns + generator.normal(0, 0.02, (sets, cases)))


def test_t_interval_equals_scipy() -> None:
    values = np.array([0.81, 0.84, 0.79, 0.86])
    found = t_interval(values)
    low, high = stats.t.interval(0.95, 3, loc=values.mean(), scale=stats.sem(values))
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.how == "t over 4 label sets"


def test_means_by_hand_with_a_case_that_one_set_has_no_score_for() -> None:
    table = np.array([[0.8, 0.6, np.nan], [0.9, 0.7, 0.2]])
    np.testing.assert_allclose(set_means(table), [0.7, 0.6])
    assert mean_score(table) == pytest.approx(0.65)
    with pytest.raises(DataError, match="no score at all"):
        set_means(np.array([[np.nan, np.nan], [1.0, 1.0]]))


def test_weighted_means_equal_a_loop_that_repeats_rows_and_columns() -> None:
    generator = np.random.default_rng(0)
    table = generator.random((5, 7))
    table[1, 2] = table[3, 3] = np.nan
    rows, columns = draws((5, 7), "sets and cases", 50)
    found = weighted_means(table, rows, columns)
    for place in range(50):
        chosen = np.repeat(np.arange(7), columns[place].astype(int))
        means = [np.nanmean(table[row, chosen]) for row in np.repeat(np.arange(5), rows[place].astype(int))]
        assert found[place] == pytest.approx(float(np.mean(means)))


def test_each_resample_draws_as_many_rows_and_columns_as_there_are() -> None:
    rows, columns = draws((8, 40), "sets and cases", 200)
    assert set(rows.sum(axis=1)) == {8}
    assert set(columns.sum(axis=1)) == {40}
    rows, columns = draws((8, 40), "cases", 200)
    assert (rows == 1).all()
    assert columns.std() > 0


def test_the_bootstrap_is_the_same_twice_and_nears_the_normal_interval() -> None:
    table = np.random.default_rng(1).normal(0.8, 0.1, (1, 400))
    found = bootstrap(table, "cases")
    assert bootstrap(table, "cases") == found
    half = 1.96 * table.std() / 20
    assert found.low == pytest.approx(table.mean() - half, abs=0.1 * half)
    assert found.high == pytest.approx(table.mean() + half, abs=0.1 * half)


def test_the_crossed_interval_holds_the_truth_and_a_nested_one_would_not() -> None:
    generator = np.random.default_rng(2)
    held = nested = 0
    for _ in range(150):
        table = crossed(generator, 10, 40)
        low, high = np.percentile(resampled_means(table, "sets and cases", 400), (2.5, 97.5))
        held += low <= 0 <= high
        # New cases inside each drawn set, as for cases that are not shared.
        rows = generator.integers(0, 10, (400, 10))
        means = table[rows[:, :, None], generator.integers(0, 40, (400, 10, 40))].mean(axis=(1, 2))
        low, high = np.percentile(means, (2.5, 97.5))
        nested += low <= 0 <= high
    assert held >= 0.9 * 150
    assert nested < 0.8 * 150


@pytest.mark.parametrize(
    ("sets", "over"), [(1, ["cases"]), (2, ["sets", "cases"]), (7, ["sets", "cases"]), (8, ["sets and cases"])]
)
def test_which_intervals_a_number_of_label_sets_supports(sets: int, over: list[str]) -> None:
    table = np.random.default_rng(3).random((sets, 12))
    found = intervals(table)
    assert [interval.over for interval in found] == over
    assert all(interval.low < mean_score(table) < interval.high for interval in found)


def test_few_cases_have_student_s_interval() -> None:
    """Five cases, resampled, are too alike: their bootstrap holds the truth in four of five data sets only."""
    values = np.array([[0.7, 0.8, 0.75, 0.9, 0.6, np.nan]])
    (one,) = intervals(values)
    wanted = stats.t.interval(0.95, 4, values[0, :5].mean(), stats.sem(values[0, :5]))
    assert (one.low, one.high) == pytest.approx(wanted)
    assert one.how == "t over 5 cases"
    assert [found.how for found in intervals(np.vstack([values, values + 0.01]))] == [
        "t over 2 label sets",
        "t over 5 cases",
    ]
    assert intervals(np.array([[0.5, np.nan]])) == ()
    wide = np.full((1, 20), np.nan)
    wide[0, :9] = np.linspace(0.5, 0.9, 9)
    assert intervals(wide)[0].how == "bootstrap over 9 cases"  # those that have a score


def test_a_single_value_has_no_spread() -> None:
    with pytest.raises(DataError, match="at least two"):
        t_interval(np.array([0.8]))
