"""One method against another: paired over label sets, effect sizes, Holm's correction of declared comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr

from frugalseg.errors import DataError
from frugalseg.evaluation.intervals import Interval, Scores, over_cases_alone, set_means, t_interval


@dataclass(frozen=True)
class Paired:
    """What the differences `first` - `second` say, both of the same label sets and scored on the same cases.

    Attributes:
        sets: Number of label sets.
        difference: Mean difference.
        differences: The difference of each label set.
        interval: Student's t over label sets; over cases alone where there is a single label set.
        p: Two-sided p-value of the paired t-test over label sets; None for a single one.
        effect: Cohen's d_z, mean difference by its standard deviation over label sets; None for a single one.
        wins: Label sets in which `first` has the larger score.
    """

    sets: int
    difference: float
    differences: tuple[float, ...]
    interval: Interval
    p: float | None
    effect: float | None
    wins: int


def alike(first: Scores, second: Scores, perfect: float) -> tuple[Scores, Scores]:
    """Return both tables with a score for the same cases.

    A case has no score where its truth has no structure and none was found. Where the other method did find
    something there, which counts as missed in its mean, this one was right and gets `perfect`: else the mistake
    would cost nothing in a comparison. Where neither has a score, neither gets one.
    """
    one, other = (np.asarray(table, np.float64) for table in (first, second))
    only_one, only_other = ~np.isnan(one) & np.isnan(other), np.isnan(one) & ~np.isnan(other)
    return np.where(only_other, perfect, one), np.where(only_one, perfect, other)


def paired(first: Scores, second: Scores, perfect: float = 1.0) -> Paired:
    """Compare two tables (label sets, cases) row by row and column by column.

    Args:
        first: Scores of one method, NaN where a case has none.
        second: Those of the other.
        perfect: The best score there is, for the one that found nothing where nothing is (`alike`).

    Raises:
        DataError: The tables are not of the same label sets and cases.
    """
    if np.shape(first) != np.shape(second) or np.ndim(first) != 2:
        raise DataError(
            f"tables of the same label sets and cases are needed, not {np.shape(first)} and {np.shape(second)}"
        )
    one, other = alike(first, second, perfect)
    apart = one - other
    values = set_means(apart)
    mean = float(values.mean())
    wins = int((values > 0).sum())
    if len(values) == 1:
        own = over_cases_alone(apart) or Interval(-np.inf, np.inf, "cases", "none over one case")
        return Paired(1, mean, (mean,), own, None, None, wins)
    spread = float(np.std(values, ddof=1))
    if spread <= 1e-12 * max(1.0, abs(mean)):  # all equal: t would divide by zero
        p, effect = (1.0, 0.0) if abs(mean) <= 1e-12 else (0.0, float(np.copysign(np.inf, mean)))
    else:
        effect = mean / spread
        p = 2 * float(stdtr(len(values) - 1, -abs(effect) * len(values) ** 0.5))
    return Paired(len(values), mean, tuple(map(float, values)), t_interval(values), p, effect, wins)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p-values (Holm 1979), in the order given.

    The k-th smallest of m is multiplied by m - k + 1, made no smaller than those before it, and cut at 1.
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, p_values[index] * (len(p_values) - place)))
        adjusted[index] = largest
    return adjusted
