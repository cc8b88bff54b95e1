"""What a table of cases says about the model: means with intervals, misses counted, the rule printed under them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import stdtrit

from frugalseg.errors import DataError
from frugalseg.evaluation.table import METRICS, CaseRow
from frugalseg.evaluation.volumes import Agreement, agreement
from frugalseg.files import write_json

FORMAT_VERSION = 1
RULE = (
    "Missed (only in the truth) or spurious (only in the prediction): Dice 0, surface Dice 0, distances = the "
    "image's diagonal, counted. In neither: outside the means, counted apart as empty. Not annotated in a case: "
    "outside the means, counted apart as n/a."
)
_UPPER = {"dice": 1.0, "surface_dice": 1.0, "hd95_mm": np.inf, "assd_mm": np.inf}


@dataclass(frozen=True)
class Statistics:
    """Location and spread of `n` values.

    `sd` is the sample standard deviation (n - 1); `low` and `high` bound the 95 % t-interval of the mean, cut at
    values that no mean can have. All three are None for a single value, which says nothing about spread.
    """

    n: int
    mean: float
    sd: float | None
    median: float
    minimum: float
    maximum: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class StructureSummary:
    """One structure over all cases: how often it was in the images, and statistics over its counted rows.

    `statistics` has an entry per metric of the table, or None where no row counts; `volume` says how far predicted
    and true volumes agree.
    """

    n_cases: int
    n_scored: int
    n_missed: int
    n_spurious: int
    n_both_empty: int
    n_not_annotated: int
    statistics: dict[str, Statistics | None]
    volume: Agreement | None


@dataclass(frozen=True)
class CaseScore:
    """A case's score: for each metric the mean over its counted structures."""

    case: str
    means: dict[str, float]


@dataclass(frozen=True)
class Summary:
    """A data set's scores.

    Attributes:
        rule: What empty masks cost, in words.
        tolerance_mm: Tolerance of the surface Dice.
        n_cases: Number of cases in the table.
        n_cases_empty: Those without a counted structure: outside every mean.
        n_cases_in_part: Those in which some structure was not annotated.
        n_cases_ignored: Those with ignored voxels.
        voxels_ignored: Such voxels over all cases; they are in no score.
        without_prediction: Cases that had no prediction and were counted as missed.
        overall: Per metric, statistics over the scores of the cases.
        structures: Per structure, in the table's order.
        any_foreground: The extra row; in no mean above.
        cases: The score of every case with one, by increasing mean Dice (worst first).
    """

    rule: str
    tolerance_mm: float
    n_cases: int
    n_cases_empty: int
    n_cases_in_part: int
    n_cases_ignored: int
    voxels_ignored: int
    without_prediction: tuple[str, ...]
    overall: dict[str, Statistics | None]
    structures: dict[str, StructureSummary]
    any_foreground: StructureSummary | None
    cases: tuple[CaseScore, ...]

    @property
    def examples(self) -> dict[str, CaseScore]:
        """The worst, the median and the best case by mean Dice (of an even number: the lower median)."""
        if not self.cases:
            return {}
        places = {"worst": 0, "median": (len(self.cases) - 1) // 2, "best": len(self.cases) - 1}
        return {word: self.cases[place] for word, place in places.items()}

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        examples = {word: asdict(score) for word, score in self.examples.items()}
        return {"format_version": FORMAT_VERSION, **asdict(self), "examples": examples}


def summarise(rows: Sequence[CaseRow], without_prediction: Iterable[str] = ()) -> Summary:
    """Sum up the rows of a data set.

    A case's score is the mean over its counted structures, the data set's the mean over cases, so that a case with
    more structures weighs no more than another.

    Args:
        rows: The rows of every case, in any order.
        without_prediction: Names of cases scored without a prediction, to be told beside the numbers.

    Raises:
        DataError: No rows, a structure twice in a case, or different tolerances.
    """
    tolerances = sorted({row.tolerance_mm for row in rows})
    if len(tolerances) != 1:
        raise DataError(f"rows of one tolerance are needed to sum up; there are {tolerances or 'no rows'}")
    seen: set[tuple[str, str]] = set()
    for row in rows:
        if (row.case, row.structure) in seen:
            raise DataError(
                f"structure {row.structure!r} stands twice in the table; scores would count double", row.case
            )
        seen.add((row.case, row.structure))
    names = dict.fromkeys(row.case for row in rows)
    cases = _case_scores(rows)
    structures = dict.fromkeys(row.structure for row in rows if not row.extra)
    extra = [row for row in rows if row.extra]
    ignored = {row.case: row.voxels_ignored for row in rows if row.voxels_ignored}
    return Summary(
        rule=RULE,
        tolerance_mm=tolerances[0],
        n_cases=len(names),
        n_cases_empty=len(names) - len(cases),
        n_cases_in_part=len({row.case for row in rows if row.status == "not_annotated"}),
        n_cases_ignored=len(ignored),
        voxels_ignored=sum(ignored.values()),
        without_prediction=tuple(without_prediction),
        overall=_all_statistics(lambda metric: [score.means[metric] for score in cases]),
        structures={name: _structure([row for row in rows if row.structure == name]) for name in structures},
        any_foreground=_structure(extra) if extra else None,
        cases=cases,
    )


def write_summary(path: Path, summary: Summary, made_by: Mapping[str, Any] | None = None) -> None:
    """Write a summary to `path` as JSON, atomically.

    Args:
        path: The file.
        summary: The scores.
        made_by: What made the predictions, if that is known.

    Raises:
        DataError: The file cannot be written.
    """
    write_json(path, summary.to_json() | ({"predictions": dict(made_by)} if made_by else {}))


def statistics(values: Sequence[float], upper: float = np.inf) -> Statistics | None:
    """Return the statistics of values between 0 and `upper`, or None of none."""
    if not len(values):
        return None
    data = np.asarray(values, dtype=np.float64)
    mean = float(data.mean())
    sd = low = high = None
    if data.size > 1:
        sd = float(data.std(ddof=1))
        half = float(stdtrit(data.size - 1, 0.975)) * sd / data.size**0.5
        low, high = max(mean - half, 0.0), float(min(mean + half, upper))
    return Statistics(data.size, mean, sd, float(np.median(data)), float(data.min()), float(data.max()), low, high)


def _all_statistics(values: Callable[[str], Sequence[float]]) -> dict[str, Statistics | None]:
    return {metric: statistics(values(metric), _UPPER[metric]) for metric in METRICS}


def _values(rows: Iterable[CaseRow], metric: str) -> list[float]:
    return [getattr(row, metric) for row in rows if row.counted]


def _structure(rows: Sequence[CaseRow]) -> StructureSummary:
    def count(status: str) -> int:
        return sum(row.status == status for row in rows)

    return StructureSummary(
        n_cases=len(rows),
        n_scored=count("scored"),
        n_missed=count("missed"),
        n_spurious=count("spurious"),
        n_both_empty=count("both_empty"),
        n_not_annotated=count("not_annotated"),
        statistics=_all_statistics(lambda metric: _values(rows, metric)),
        volume=agreement(rows),
    )


def _case_scores(rows: Sequence[CaseRow]) -> tuple[CaseScore, ...]:
    by_case: dict[str, list[CaseRow]] = {}
    for row in rows:
        if row.counted and not row.extra:
            by_case.setdefault(row.case, []).append(row)
    scores = [
        CaseScore(case, {metric: float(np.mean(_values(group, metric))) for metric in METRICS})
        for case, group in by_case.items()
    ]
    return tuple(sorted(scores, key=lambda score: (score.means["dice"], score.case)))
