from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from frugalseg.errors import DataError
from frugalseg.evaluation import ANY_FOREGROUND, dice, score_case, surface_scores
from frugalseg.geometry import Grid
from tests.evaluation.naive import Mask

SHAPE = (12, 10, 8)
GRID = Grid(SHAPE, np.diag([1.0, 2.0, -0.5, 1.0]))
DIAGONAL = (12.0**2 + 20.0**2 + 4.0**2) ** 0.5


def block(start: int, stop: int) -> Mask:
    mask = np.zeros(SHAPE, bool)
    mask[start:stop, 2:6, 3:7] = True
    return mask


EMPTY = block(0, 0)


def test_each_status() -> None:
    truth = {"found": block(2, 6), "lost": block(6, 8), "imagined": EMPTY, "absent": EMPTY}
    prediction = {"found": block(3, 7), "lost": EMPTY, "imagined": block(0, 1), "absent": EMPTY}
    rows = {row.structure: row for row in score_case("c1", truth, prediction, GRID, 1.0)}
    assert list(rows) == ["found", "lost", "imagined", "absent", ANY_FOREGROUND]
    assert [row.status for row in rows.values()] == ["scored", "missed", "spurious", "both_empty", "scored"]
    assert [row.counted for row in rows.values()] == [True, True, True, False, True]
    assert [row.extra for row in rows.values()] == [False] * 4 + [True]
    assert {row.case for row in rows.values()} == {"c1"}
    found = rows["found"]
    assert found.dice == 0.75  # 3 of 4 layers
    assert (found.hd95_mm, found.surface_dice) == (1.0, 1.0)
    for name in ("lost", "imagined"):
        row = rows[name]
        assert (row.dice, row.surface_dice) == (0.0, 0.0)
        assert row.hd95_mm == pytest.approx(DIAGONAL)
        assert row.assd_mm == pytest.approx(DIAGONAL)
    absent = rows["absent"]
    assert (absent.dice, absent.hd95_mm, absent.surface_dice, absent.assd_mm) == (None, None, None, None)
    assert (rows["lost"].voxels_truth, rows["lost"].voxels_prediction) == (32, 0)
    assert rows["lost"].volume_truth_ml == pytest.approx(0.032)  # voxels of 1 x 2 x 0.5 mm are 1 mm3
    assert rows["imagined"].volume_prediction_ml == pytest.approx(0.016)


def test_finding_less_never_scores_better() -> None:
    """A miss is dearer than the worst prediction that finds anything."""
    truth = np.zeros(SHAPE, bool)
    truth[0, 0, 0] = True
    (missed, _) = score_case("c", {"s": truth}, {"s": EMPTY}, GRID, 1.0)
    (farthest, _) = score_case("c", {"s": truth}, {"s": truth[::-1, ::-1, ::-1]}, GRID, 1.0)
    assert missed.hd95_mm is not None
    assert farthest.hd95_mm is not None
    assert missed.hd95_mm > farthest.hd95_mm > 0


def test_any_foreground_is_the_union() -> None:
    truth = {"left": block(1, 4), "right": block(6, 9)}
    prediction = {"left": block(1, 3), "right": block(7, 9)}
    *rows, union = score_case("c", truth, prediction, GRID, 0.5)
    both = truth["left"] | truth["right"], prediction["left"] | prediction["right"]
    scores = surface_scores(*both, GRID.spacing, 0.5)
    assert union.structure == ANY_FOREGROUND
    assert (union.dice, union.voxels_truth) == (dice(*both), sum(row.voxels_truth or 0 for row in rows))
    assert (union.hd95_mm, union.surface_dice) == (scores.hd95_mm, scores.surface_dice)


def test_masks_are_left_as_they_were() -> None:
    left = np.zeros(SHAPE, bool)
    left[:6] = True
    truth = {"left": left, "right": ~left}  # together the whole image, so that nothing is cropped
    score_case("c", truth, {"left": ~left, "right": left.copy()}, GRID, 1.0)
    assert left[:6].all()
    assert not left[6:].any()


def test_any_foreground_of_nested_regions_is_the_outer_one() -> None:
    truth = {"core": block(4, 6), "whole": block(2, 8)}
    core, whole, union = score_case("c", truth, {"core": block(3, 6), "whole": block(2, 7)}, GRID, 1.0)
    assert union == dataclasses.replace(whole, structure=ANY_FOREGROUND)
    assert core.dice != whole.dice
    # Nested in the truth, but the prediction of the core sticks out: the union is neither.
    *_, union = score_case("c", truth, {"core": block(7, 10), "whole": block(2, 7)}, GRID, 1.0)
    assert union.voxels_prediction == 8 * 16
    assert union.dice == dice(block(2, 8), block(2, 10))


def test_a_case_without_prediction_is_missed() -> None:
    truth = {"a": block(1, 4), "b": EMPTY}
    rows = score_case("c", truth, None, GRID, 1.0)
    assert rows == score_case("c", truth, {"a": EMPTY, "b": EMPTY}, GRID, 1.0)
    assert [row.status for row in rows] == ["missed", "both_empty", "missed"]


def test_a_structure_that_was_not_annotated_has_no_values() -> None:
    """Whatever the truth's mask of it holds; the others are scored as ever, their union is not known."""
    prediction = {"a": block(1, 4), "b": block(5, 8), "c": block(8, 9)}
    truth = {"a": block(1, 3), "b": block(5, 7), "c": EMPTY}
    a, b, c, union = score_case("c", truth, prediction, GRID, 1.0, annotated=("a",))
    assert a == score_case("c", truth, prediction, GRID, 1.0)[0]
    assert [row.status for row in (b, c, union)] == ["not_annotated"] * 3
    for row in (b, c, union):
        assert not row.counted
        assert (row.dice, row.hd95_mm, row.surface_dice, row.assd_mm) == (None, None, None, None)
        assert (row.voxels_truth, row.volume_truth_ml) == (None, None)
    assert [row.voxels_prediction for row in (b, c, union)] == [48, 16, 112]
    other = score_case("c", {**truth, "b": EMPTY, "c": block(0, 12)}, prediction, GRID, 1.0, annotated=("a",))
    assert other == [a, b, c, union]
    missed = score_case("c", truth, None, GRID, 1.0, annotated=("a",))
    assert [row.status for row in missed] == ["missed", "not_annotated", "not_annotated", "not_annotated"]
    everything = score_case("c", truth, prediction, GRID, 1.0, annotated=("a", "b", "c"))
    assert everything == score_case("c", truth, prediction, GRID, 1.0)
    with pytest.raises(DataError, match="'d' was annotated, but is no structure"):
        score_case("c", truth, prediction, GRID, 1.0, annotated=("a", "d"))


def test_ignored_voxels_count_for_nothing() -> None:
    ignored = np.zeros(SHAPE, bool)
    ignored[5:] = True
    truth = {"a": block(2, 4), "b": EMPTY, "c": block(6, 8)}
    prediction = {"a": block(2, 9), "b": block(6, 9), "c": EMPTY}
    rows = {row.structure: row for row in score_case("c", truth, prediction, GRID, 1.0, ignored=ignored)}
    # Of the prediction's 7 layers 3 lie outside of what is ignored, of the truth's 2 both: 2 * 2 / (3 + 2).
    assert rows["a"].dice == pytest.approx(0.8)
    assert (rows["a"].voxels_truth, rows["a"].voxels_prediction) == (32, 48)
    assert rows["a"].hd95_mm == 1.0
    # Only found, or only there, where nothing is known: neither spurious nor missed.
    assert [rows[name].status for name in ("b", "c")] == ["both_empty", "both_empty"]
    assert {row.voxels_ignored for row in rows.values()} == {7 * 10 * 8}
    # The same as with both masks emptied there by hand; what was there does not matter.
    cut, guess = ({name: mask & ~ignored for name, mask in masks.items()} for masks in (truth, prediction))
    by_hand = score_case("c", cut, guess, GRID, 1.0)
    assert [dataclasses.replace(row, voxels_ignored=0) for row in rows.values()] == by_hand
    nothing = score_case("c", truth, prediction, GRID, 1.0, ignored=np.zeros(SHAPE, bool))
    assert nothing == score_case("c", truth, prediction, GRID, 1.0)
    with pytest.raises(DataError, match=r"truth of 'ignored' is bool of shape \(11"):
        score_case("c", truth, prediction, GRID, 1.0, ignored=ignored[1:])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"truth": {}, "prediction": {}}, "at least one"),
        ({"prediction": {"b": EMPTY}}, "a in the truth, b in the prediction"),
        ({"truth": {ANY_FOREGROUND: EMPTY}, "prediction": {ANY_FOREGROUND: EMPTY}}, "rename"),
        ({"prediction": {"a": EMPTY[:-1]}}, r"\(11, 10, 8\).*expected bool of shape \(12, 10, 8\)"),
        ({"truth": {"a": EMPTY.astype(np.uint8)}}, "truth of 'a' is uint8"),
        ({"tolerance_mm": -1.0}, "tolerance"),
        ({"tolerance_mm": float("nan")}, "tolerance"),
        ({"case": "two\nlines"}, "plain text"),
        ({"case": "b\udcffd"}, "plain text"),
        ({"case": ""}, "plain text"),
    ],
)
def test_wrong_input_is_refused(change: dict[str, Any], message: str) -> None:
    right: dict[str, Any] = {
        "case": "c7",
        "truth": {"a": EMPTY},
        "prediction": {"a": EMPTY},
        "grid": GRID,
        "tolerance_mm": 1.0,
    }
    assert score_case(**right)
    with pytest.raises(DataError, match=message) as caught:
        score_case(**{**right, **change})
    assert "case" in change or caught.value.where == "c7"
