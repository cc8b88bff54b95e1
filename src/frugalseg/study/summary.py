"""What a study's table says: means with intervals, comparisons with corrections, and what labels are worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from frugalseg.evaluation.intervals import Interval, intervals, mean_score, set_means
from frugalseg.study.compare import Paired, holm, paired
from frugalseg.study.design import Comparison, Design
from frugalseg.study.equivalence import Equivalence, label_equivalence
from frugalseg.study.table import Row, scored_seeds, scores, structures_of

MEASURES = {"dice": "Dice", "hd95_mm": "HD95, mm", "surface_dice": "surface Dice"}
UPPER = {"dice": 1.0, "surface_dice": 1.0}
PERFECT = {measure: UPPER.get(measure, 0.0) for measure in MEASURES}
ALPHA = 0.05


@dataclass(frozen=True)
class Point:
    """A method's score at a budget: mean, spread over label sets (None for one), and intervals."""

    method: str
    labels: int
    measure: str
    structure: str | None
    seeds: tuple[int, ...]
    cases: int
    mean: float
    spread: float | None
    intervals: tuple[Interval, ...]

    @property
    def interval(self) -> Interval:
        """The first of its intervals."""
        return self.intervals[0]


@dataclass(frozen=True)
class Compared:
    """A comparison by mean Dice at a budget. `adjusted` is Holm's p over the declared ones, None for others.

    `asked` is how many label sets it was designed for, of which some may have no run. `alone`: all of them are the
    same cases, so that they say nothing about other label sets.

    `distance` compares HD95 (mm, smaller is better) of the same cells. It is described and never tested: what was
    declared is Dice.
    """

    first: str
    second: str
    labels: int
    primary: bool
    result: Paired
    adjusted: float | None
    distance: Paired
    asked: int
    alone: bool

    @property
    def verdict(self) -> str:
        """What may be said of it."""
        if self.alone:
            return "all labels: one label set, trained several times; not decided"
        lacking = self.asked - self.result.sets
        told = f"; {lacking} of {self.asked} label sets have no score" if lacking > 0 else ""
        if not self.primary:
            return "exploratory" + told
        if self.adjusted is None:
            return "no p-value from one label set" + told
        return f"{'differs' if self.adjusted < ALPHA else 'not decided'} at {ALPHA:g} after Holm{told}"


@dataclass(frozen=True)
class Worth:
    """`method` at `labels` labels equals `other` at how many."""

    method: str
    labels: int
    other: str
    equivalence: Equivalence


@dataclass(frozen=True)
class StudySummary:
    """Everything that the page and summary.json tell."""

    points: tuple[Point, ...]
    comparisons: tuple[Compared, ...]
    worth: tuple[Worth, ...]
    structures: tuple[str, ...]

    def point(self, method: str, labels: int, measure: str, structure: str | None = None) -> Point | None:
        """Return a point of the table, or None."""
        key = (method, labels, measure, structure)
        return next((p for p in self.points if (p.method, p.labels, p.measure, p.structure) == key), None)

    def to_json(self) -> dict[str, Any]:
        """Return plain values; an infinite number of labels is None."""
        return {
            "points": [asdict(point) for point in self.points],
            "comparisons": [{**_finite(asdict(one)), "verdict": one.verdict} for one in self.comparisons],
            "label_equivalence": [
                {**_finite(asdict(one)), "told": one.equivalence.describe()} for one in self.worth
            ],
        }


def summarise(rows: Sequence[Row], design: Design) -> StudySummary:
    """Sum up a study's table, as far as its cells are there."""
    structures = structures_of(rows)
    known = list(dict.fromkeys((row["method"], int(row["labels"])) for row in rows))
    points = [
        point
        for method, labels in known
        for measure in MEASURES
        for structure in (None, *structures)
        if (point := _point(rows, method, labels, measure, structure)) is not None
    ]
    return StudySummary(tuple(points), _comparisons(rows, design, known), _worth(rows, design, known), structures)


def _point(rows: Sequence[Row], method: str, labels: int, measure: str, structure: str | None) -> Point | None:
    seeds = scored_seeds(rows, method, labels, measure, structure)
    if not seeds:
        return None
    table = scores(rows, method, labels, seeds, measure, structure)
    values = set_means(table)
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
    # Cut at what no mean can be: t over two or three label sets reaches far beyond.
    top = UPPER.get(measure, np.inf)
    cut = tuple(replace(one, low=max(0.0, one.low), high=min(top, one.high)) for one in intervals(table))
    return Point(method, labels, measure, structure, seeds, table.shape[1], mean_score(table), spread, cut)


def _shared(rows: Sequence[Row], one: tuple[str, int], other: tuple[str, int]) -> tuple[int, ...]:
    return tuple(sorted(set(scored_seeds(rows, *one, "dice")) & set(scored_seeds(rows, *other, "dice"))))


def _comparisons(rows: Sequence[Row], design: Design, known: Sequence[tuple[str, int]]) -> tuple[Compared, ...]:
    declared = list(design.primary)
    pairs = {(one.labels, frozenset((one.first, one.second))) for one in declared}
    names = [*design.recipes]
    others = [
        Comparison(second, first, labels)  # the later one against the one before: a method against its floor
        for labels in design.budgets
        for first, second in combinations(names, 2)
        if (labels, frozenset((first, second))) not in pairs
    ]
    results = []
    for one in (*declared, *others):
        first, second = (one.first, one.labels), (one.second, one.labels)
        seeds = _shared(rows, first, second) if first in known and second in known else ()
        if seeds:
            results.append((one, _paired(rows, one, seeds, "dice"), _paired(rows, one, seeds, "hd95_mm")))
    told = {one: None if one.labels == design.available else result.p for one, result, _ in results}
    p_values = [told.get(one) for one in declared]
    # What was declared and has no runs yet, or too few, counts: else each look would be corrected for less.
    corrected = holm([1.0 if p is None else p for p in p_values])
    adjusted = {one: own for one, p, own in zip(declared, p_values, corrected, strict=True) if p is not None}
    return tuple(
        Compared(
            one.first,
            one.second,
            one.labels,
            one in declared,
            result,
            adjusted.get(one),
            distance,
            asked=len(design.seeds),
            alone=one.labels == design.available and result.sets > 1,
        )
        for one, result, distance in results
    )


def _paired(rows: Sequence[Row], one: Comparison, seeds: Sequence[int], measure: str) -> Paired:
    first, second = (scores(rows, name, one.labels, seeds, measure) for name in (one.first, one.second))
    return paired(first, second, PERFECT[measure])


def _worth(rows: Sequence[Row], design: Design, known: Sequence[tuple[str, int]]) -> tuple[Worth, ...]:
    found = []
    for other in design.recipes:
        budgets = [labels for labels in design.budgets if (other, labels) in known]
        for method, labels in known:
            if method == other or labels not in design.budgets or len(budgets) < 2:
                continue
            shared = set(scored_seeds(rows, method, labels, "dice"))
            for budget in budgets:
                shared &= set(scored_seeds(rows, other, budget, "dice"))
            if not shared:
                continue
            seeds = tuple(sorted(shared))
            curve = {budget: scores(rows, other, budget, seeds, "dice") for budget in budgets}
            equal = label_equivalence(scores(rows, method, labels, seeds, "dice"), curve)
            found.append(Worth(method, labels, other, equal))
    return tuple(found)


def _finite(value: Any) -> Any:
    """Replace what JSON has no number for."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
