from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from frugalseg.errors import DataError
from frugalseg.evaluation import ANY_FOREGROUND, CaseRow, summarise, write_summary
from frugalseg.evaluation.summary import statistics
from frugalseg.evaluation.table import Status


def row(case: str, structure: str, dice: float | None, hd95: float = 2.0, status: Status = "scored") -> CaseRow:
    if dice is None:
        return CaseRow(case, structure, "both_empty", None, None, None, None, 1.0, 0, 0, 0.0, 0.0)
    return CaseRow(case, structure, status, dice, hd95, dice / 2, hd95 / 2, 1.0, 10, 10, 0.1, 0.1)


def unknown(case: str, structure: str) -> CaseRow:
    return CaseRow(case, structure, "not_annotated", None, None, None, None, 1.0, None, 5, None, 0.05)


TABLE = [
    row("c1", "a", 0.9, 1.0),
    row("c1", "b", 0.5, 3.0),
    row("c1", ANY_FOREGROUND, 0.99),
    row("c2", "a", 0.8, 2.0),
    row("c2", "b", None),
    row("c2", ANY_FOREGROUND, 0.99),
    row("c3", "a", 0.0, 50.0, "missed"),
    row("c3", "b", 0.0, 50.0, "spurious"),
    row("c3", ANY_FOREGROUND, 0.99),
    row("c4", "a", None),
    row("c4", "b", None),
    row("c4", ANY_FOREGROUND, None),
]


def test_means_by_hand() -> None:
    summary = summarise(TABLE)
    overall = summary.overall
    # Cases: (0.9 + 0.5) / 2, 0.8, 0; the fourth has nothing to score. Any foreground would lift all of them.
    assert overall["dice"] is not None
    assert overall["hd95_mm"] is not None
    assert overall["surface_dice"] is not None
    assert overall["dice"].mean == pytest.approx((0.7 + 0.8 + 0.0) / 3)
    assert overall["hd95_mm"].mean == pytest.approx((2.0 + 2.0 + 50.0) / 3)
    assert overall["surface_dice"].mean == pytest.approx((0.35 + 0.4 + 0.0) / 3)
    assert (summary.n_cases, summary.n_cases_empty) == (4, 1)
    a, b = summary.structures["a"], summary.structures["b"]
    assert list(summary.structures) == ["a", "b"]
    assert (a.n_cases, a.n_scored, a.n_missed, a.n_spurious, a.n_both_empty) == (4, 2, 1, 0, 1)
    assert (b.n_cases, b.n_scored, b.n_missed, b.n_spurious, b.n_both_empty) == (4, 1, 0, 1, 2)
    assert a.statistics["dice"] is not None
    assert a.statistics["dice"].n == 3
    assert a.statistics["dice"].mean == pytest.approx(1.7 / 3)
    assert a.statistics["dice"].median == 0.8
    assert (a.statistics["dice"].minimum, a.statistics["dice"].maximum) == (0.0, 0.9)
    assert summary.any_foreground is not None
    assert summary.any_foreground.statistics["dice"] == statistics([0.99] * 3, 1.0)


def test_not_annotated_is_left_out_and_counted_apart() -> None:
    """Means as if the rows were not there; neither a miss nor an empty structure."""
    part = [*TABLE[:9], unknown("c4", "a"), row("c4", "b", 0.4), unknown("c4", ANY_FOREGROUND)]
    summary = summarise(part)
    assert summary.overall["dice"] is not None
    assert summary.overall["dice"].mean == pytest.approx((0.7 + 0.8 + 0.0 + 0.4) / 4)
    a = summary.structures["a"]
    assert (a.n_cases, a.n_scored, a.n_missed, a.n_spurious, a.n_both_empty, a.n_not_annotated) == (
        4,
        2,
        1,
        0,
        0,
        1,
    )
    assert a.statistics == summarise(TABLE[:9]).structures["a"].statistics
    assert (summary.n_cases_in_part, summary.n_cases_empty) == (1, 0)
    assert summary.any_foreground is not None
    assert summary.any_foreground.n_not_annotated == 1
    value = summary.to_json()
    assert value["n_cases_in_part"] == 1
    assert value["structures"]["a"]["n_not_annotated"] == 1
    assert "Not annotated" in value["rule"]
    nothing = summarise([unknown("c1", "a"), unknown("c1", ANY_FOREGROUND)])
    assert (nothing.n_cases_empty, nothing.overall["dice"]) == (1, None)


def test_ignored_voxels_are_summed_over_cases() -> None:
    table = [replace(row, voxels_ignored={"c1": 10, "c3": 4}.get(row.case, 0)) for row in TABLE]
    summary = summarise(table)
    assert (summary.n_cases_ignored, summary.voxels_ignored) == (2, 14)
    assert (summarise(TABLE).n_cases_ignored, summarise(TABLE).voxels_ignored) == (0, 0)


def test_order_of_rows_does_not_matter() -> None:
    expected = summarise(TABLE)
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(len(TABLE))
        other = summarise([TABLE[place] for place in order])
        assert other.structures == expected.structures
        assert [score.case for score in other.cases] == ["c3", "c1", "c2"]
        assert other.overall["dice"] == expected.overall["dice"]


def test_a_miss_lowers_every_mean() -> None:
    """Dropping a structure from the prediction must never improve a number."""
    found, missed = [*TABLE[:2]], [TABLE[0], row("c1", "b", 0.0, 50.0, "missed")]
    for metric, worse in (("dice", -1), ("hd95_mm", 1), ("surface_dice", -1), ("assd_mm", 1)):
        before, after = (summarise(rows).overall[metric] for rows in (found, missed))
        assert before is not None
        assert after is not None
        assert worse * (after.mean - before.mean) > 0


def test_statistics_against_scipy() -> None:
    values = np.random.default_rng(0).normal(0.6, 0.05, 12)
    found = statistics(values.tolist(), 1.0)
    assert found is not None
    low, high = stats.t.interval(0.95, 11, loc=values.mean(), scale=stats.sem(values))
    assert found.low == pytest.approx(low)
    assert found.high == pytest.approx(high)
    assert found.sd == pytest.approx(values.std(ddof=1))
    assert found.median == pytest.approx(np.median(values))


def test_interval_stays_where_means_can_be() -> None:
    found = statistics([0.0, 1.0], 1.0)
    assert found is not None
    assert (found.low, found.high) == (0.0, 1.0)
    distances = statistics([0.0, 10.0])
    assert distances is not None
    assert distances.low == 0.0
    assert distances.high == pytest.approx(5 + 12.7062 * 5, rel=1e-4)


def test_interval_covers_the_mean_95_times_in_100() -> None:
    rng = np.random.default_rng(1)
    found = [statistics(list(rng.normal(50.0, 3.0, 5))) for _ in range(2000)]
    covered = [part.low <= 50.0 <= part.high for part in found if part and part.low and part.high]
    assert len(covered) == 2000
    assert 0.935 < np.mean(covered) < 0.965


def test_one_value_has_no_spread_and_none_no_statistics() -> None:
    found = statistics([0.5], 1.0)
    assert found is not None
    assert (found.mean, found.sd, found.low, found.high) == (0.5, None, None, None)
    assert statistics([]) is None
    assert summarise(TABLE[-3:]).overall["dice"] is None


def test_examples() -> None:
    table = [row(f"c{number}", "a", number / 10) for number in (3, 1, 4, 2)]
    names = {word: score.case for word, score in summarise(table).examples.items()}
    assert names == {"worst": "c1", "median": "c2", "best": "c4"}
    names = {word: score.case for word, score in summarise(table[:1]).examples.items()}
    assert set(names.values()) == {"c3"}
    ties = [summarise(list(order)).examples for order in itertools.permutations(row(c, "a", 0.5) for c in "xyz")]
    assert all(tie == ties[0] for tie in ties)
    assert summarise(TABLE[-3:]).examples == {}


def test_rows_that_do_not_belong_together() -> None:
    with pytest.raises(DataError, match="no rows"):
        summarise([])
    with pytest.raises(DataError, match=r"c1: .*twice"):
        summarise([*TABLE, TABLE[0]])
    other = CaseRow("c9", "a", "both_empty", None, None, None, None, 2.0, 0, 0, 0.0, 0.0)
    with pytest.raises(DataError, match=r"one tolerance.*\[1.0, 2.0\]"):
        summarise([*TABLE, other])


def test_json(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    summary = summarise(TABLE, without_prediction=["c3"])
    write_summary(path, summary)
    value = json.loads(path.read_text())
    assert value["format_version"] == 1
    assert value["tolerance_mm"] == 1.0
    assert "diagonal" in value["rule"]
    assert value["without_prediction"] == ["c3"]
    assert value["overall"]["dice"]["mean"] == pytest.approx(0.5)
    assert value["structures"]["b"]["n_spurious"] == 1
    assert value["structures"]["a"]["volume"]["bias_percent"] == 0
    assert value["examples"]["best"] == {"case": "c2", "means": value["cases"][-1]["means"]}
