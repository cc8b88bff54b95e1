"""How many labels another method needs to be as good: the question that a user with an annotation budget asks.

The other method's curve is its mean score at each budget, made monotone (more labels do not hurt: what looks like
it is noise; pool adjacent violators) and interpolated linearly in the logarithm of the number of labels. Its
interval comes from resampling label sets and cases, the same draws for every budget and both methods, because
budgets nest within a label set and all are scored on the same cases. With fewer than 8 label sets the resamples'
deviations are widened as Student's t is (`intervals.widening`); with one, cases alone are resampled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from frugalseg.errors import DataError
from frugalseg.evaluation.intervals import RESAMPLES, Scores, draws, mean_score, weighted_means, widening


@dataclass(frozen=True)
class Equivalence:
    """How many labels of the other method are worth what was asked about; 0 or infinite beyond its curve.

    0: already its smallest budget is better. Infinite: its largest is not as good.
    """

    labels: float
    low: float
    high: float
    smallest: int
    largest: int

    def describe(self) -> str:
        """Say it in words, such as "11 (8 to 17)" or "more than 24"."""
        if not np.isfinite(self.labels):
            sure = not np.isfinite(self.low)
            return f"more than {self.largest}" + ("" if sure else f" (from {self._one(self.low)})")
        if self.labels == 0:
            sure = self.high == 0
            return f"fewer than {self.smallest}" + ("" if sure else f" (up to {self._one(self.high)})")
        return f"{self._one(self.labels)} ({self._one(self.low)} to {self._one(self.high)})"

    def _one(self, value: float) -> str:
        if value == 0:
            return f"under {self.smallest}"
        return f"over {self.largest}" if not np.isfinite(value) else f"{value:.3g}"


def label_equivalence(
    score: Scores, curve: Mapping[int, Scores], larger_is_better: bool = True, resamples: int = RESAMPLES
) -> Equivalence:
    """Return how many labels the method with this curve needs for this score.

    Args:
        score: Table (label sets, cases) of the method and budget that are asked about.
        curve: Such a table of the other method for each of its budgets, of the same label sets and cases.
        larger_is_better: Whether larger scores are better (Dice) or smaller ones (HD95).
        resamples: Number of resamples of the interval.

    Raises:
        DataError: Fewer than two budgets, or tables of different label sets or cases.
    """
    budgets = sorted(curve)
    if len(budgets) < 2:
        raise DataError("a label equivalence needs the other method at two budgets at least")
    if any(np.shape(curve[budget]) != np.shape(score) for budget in budgets):
        raise DataError("a label equivalence needs the same label sets and cases at every budget")
    sign = 1.0 if larger_is_better else -1.0
    over = "sets and cases" if len(score) > 1 else "cases"
    rows, columns = draws((len(score), np.shape(score)[1]), over, resamples)  # type: ignore[arg-type]

    def deviating(table: Scores) -> Scores:
        mean = mean_score(table)
        return sign * (mean + widening(len(table)) * (weighted_means(table, rows, columns) - mean))

    asked = deviating(score)
    means = np.stack([deviating(curve[budget]) for budget in budgets], axis=1)
    known = ~(np.isnan(asked) | np.isnan(means).any(axis=1))  # others drew none of the scored cases
    means, asked = means[known], asked[known]
    drawn = np.array([crossing(budgets, increasing(line), value) for line, value in zip(means, asked, strict=True)])
    whole = increasing([sign * mean_score(curve[budget]) for budget in budgets])
    # The order statistics themselves: 0 and infinity cannot be averaged with their neighbours.
    low, high = (float(np.quantile(drawn, q, method="inverted_cdf")) for q in (0.025, 0.975))
    return Equivalence(crossing(budgets, whole, sign * mean_score(score)), low, high, budgets[0], budgets[-1])


def increasing(values: Sequence[float] | Scores) -> list[float]:
    """Return the non-decreasing values nearest in squared distance (pool adjacent violators, equal weights)."""
    blocks: list[tuple[float, int]] = []
    for value in values:
        blocks.append((float(value), 1))
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (a, n), (b, m) = blocks[-2:]
            blocks[-2:] = [((a * n + b * m) / (n + m), n + m)]
    return [mean for mean, count in blocks for _ in range(count)]


def crossing(budgets: Sequence[int], line: Sequence[float], value: float) -> float:
    """Return the smallest number of labels where the line reaches the value; 0 below its start, else infinite."""
    if value < line[0]:
        return 0.0
    for place in range(1, len(budgets)):
        if value <= line[place]:
            low, high = line[place - 1], line[place]
            share = 0.0 if value <= low else (value - low) / (high - low)
            left, right = np.log2(budgets[place - 1]), np.log2(budgets[place])
            return float(2 ** (left + share * (right - left)))
    return float(budgets[0]) if value == line[0] else float("inf")
