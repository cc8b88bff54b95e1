"""Intervals for a mean score over label sets and test cases.

A study's scores are a table: rows are label sets (which cases were labelled), columns are test cases, the same ones
in every row. Two things vary that a reader wants to look past: which cases happened to be labelled, and which
happened to be in the test set. They are crossed, not nested: all rows share the columns, so a resample draws rows
and columns independently of each other (Owen 2007, "The pigeonhole bootstrap"). A bootstrap that drew new cases
inside every drawn row would take a hard case, hard under every label set, for independent bad luck, and its
intervals would be too narrow.

With fewer than 8 rows a bootstrap over rows has too few distinct resamples to say anything about its tails: then
the interval over label sets is Student's t on the row means, and the bootstrap is over cases alone, for these label
sets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from frugalseg.errors import DataError

Scores = NDArray[np.float64]
"""(label sets, cases); NaN where a case has no score (no structure in truth or prediction)."""
Over = Literal["sets", "cases", "sets and cases"]

ENOUGH_SETS = 8
_WORDS = {"sets": "label sets", "cases": "cases"}
RESAMPLES = 10_000
_SEED = 20200904  # any fixed number: the same table has the same interval


@dataclass(frozen=True)
class Interval:
    """A 95 % interval of a mean, and what it is over; `how` says it in words for a table's footnote."""

    low: float
    high: float
    over: Over
    how: str


def mean_score(scores: Scores) -> float:
    """Return the mean over label sets of the mean over cases.

    Raises:
        DataError: A label set has no score at all.
    """
    return float(set_means(scores).mean())


def set_means(scores: Scores) -> Scores:
    """Return each label set's mean over its cases that have a score."""
    table = np.atleast_2d(np.asarray(scores, np.float64))
    if table.size == 0 or np.isnan(table).all(axis=1).any():
        raise DataError("a label set has no score at all; was its cell evaluated?")
    return np.asarray(np.nanmean(table, axis=1), np.float64)


def intervals(scores: Scores) -> tuple[Interval, ...]:
    """Return the intervals that a table of this size supports, that over label sets first.

    At 8 or more label sets: one interval, over label sets and cases together. At 2 to 7: Student's t over label
    sets, and that over cases. At 1: that over cases alone, which is the bootstrap from 8 scored cases on and
    Student's t below; none where there is a single one.
    """
    table = np.atleast_2d(np.asarray(scores, np.float64))
    if len(table) >= ENOUGH_SETS:
        return (bootstrap(table, "sets and cases"),)
    over_cases = over_cases_alone(table)
    own = () if over_cases is None else (over_cases,)
    return own if len(table) == 1 else (t_interval(set_means(table)), *own)


def over_cases_alone(scores: Scores) -> Interval | None:
    """Return the interval over cases of the mean of these label sets; None where one case alone has a score."""
    table = np.atleast_2d(np.asarray(scores, np.float64))
    if int((~np.isnan(table)).any(axis=0).sum()) >= ENOUGH_SETS:
        return bootstrap(table, "cases")
    return case_interval(np.array([np.nanmean(one) for one in table.T if not np.isnan(one).all()]))


def case_interval(values: Scores) -> Interval | None:
    """Return the interval of a mean over cases: the bootstrap from 8 on, Student's t below, None for one."""
    known = np.asarray(values, np.float64)
    known = known[~np.isnan(known)]
    if len(known) >= ENOUGH_SETS:
        return bootstrap(known[None], "cases")
    return t_interval(known, "cases") if len(known) > 1 else None


def t_interval(values: Scores, over: Over = "sets") -> Interval:
    """Return Student's 95 % interval of the mean of independent values: of label sets, or of cases.

    Raises:
        DataError: Fewer than two values, which say nothing about spread.
    """
    count = len(values)
    if count < 2:
        raise DataError(f"an interval over {_WORDS[over]} needs at least two of them")
    half = float(stdtrit(count - 1, 0.975)) * float(np.std(values, ddof=1)) / count**0.5
    mean = float(np.mean(values))
    return Interval(mean - half, mean + half, over, f"t over {count} {_WORDS[over]}")


def widening(sets: int) -> float:
    """Return by how much deviations of a bootstrap over few label sets are too small, 1 from `ENOUGH_SETS` on.

    Resamples of n values deviate by a variance of (n - 1) / n of theirs, and percentiles take no note of how badly
    a spread is known from n values, as Student's t does.
    """
    if sets >= ENOUGH_SETS or sets < 2:
        return 1.0
    return float((sets / (sets - 1)) ** 0.5 * stdtrit(sets - 1, 0.975) / stdtrit(np.inf, 0.975))


def bootstrap(scores: Scores, over: Over, resamples: int = RESAMPLES) -> Interval:
    """Return the percentile interval of `mean_score` over resampled label sets, cases, or both (crossed)."""
    drawn = resampled_means(scores, over, resamples)
    low, high = np.nanpercentile(drawn, (2.5, 97.5))
    table = np.atleast_2d(np.asarray(scores, np.float64))
    sets, cases = len(table), int((~np.isnan(table)).any(axis=0).sum())
    what = {
        "sets": f"{sets} label sets",
        "cases": f"{cases} cases",
        "sets and cases": f"{sets} label sets and {cases} cases",
    }
    return Interval(float(low), float(high), over, f"bootstrap over {what[over]}")


def resampled_means(scores: Scores, over: Over, resamples: int = RESAMPLES) -> Scores:
    """Return the mean of each resample, (resamples,): a resample is how often each row and each column is drawn."""
    table = np.atleast_2d(np.asarray(scores, np.float64))
    rows, columns = draws(table.shape, over, resamples)
    return weighted_means(table, rows, columns)


def draws(shape: tuple[int, int], over: Over, resamples: int) -> tuple[Scores, Scores]:
    """Return how often each resample draws each row (resamples, rows) and each column (resamples, columns)."""
    generator = np.random.Generator(np.random.Philox(_SEED))

    def times(count: int, resampled: bool) -> Scores:
        if not resampled:
            return np.ones((resamples, count))
        return generator.multinomial(count, np.full(count, 1 / count), size=resamples).astype(np.float64)

    return times(shape[0], "sets" in over), times(shape[1], "cases" in over)


def weighted_means(table: Scores, rows: Scores, columns: Scores) -> Scores:
    """Return, for each resample, the mean over drawn rows of the mean over drawn columns that have a score."""
    known = ~np.isnan(table)
    filled = np.where(known, table, 0.0)
    totals = columns @ filled.T  # (resamples, rows): sums over the drawn cases
    counts = columns @ known.T.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = totals / counts  # NaN where a resample drew none of the row's scored cases
        weights = np.where(np.isnan(means), 0.0, rows)
        return np.asarray((np.nan_to_num(means) * weights).sum(axis=1) / weights.sum(axis=1), np.float64)
