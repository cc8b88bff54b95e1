from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from frugalseg.evaluation import background_averaged_dice, confusion, dice, volume_ml
from tests.evaluation import naive

GOLDENS = Path(__file__).parents[1] / "goldens" / "metrics.npz"
CASES = ("two_class", "both_empty", "prediction_empty", "truth_empty", "perfect")
CLASSES = ("four_class_batch2", "four_class_blob", "four_class_no_enhancing")


def test_dice_hand_worked() -> None:
    truth = np.zeros((4, 4, 4), bool)
    truth[0, 0, :4] = True
    prediction = np.zeros((4, 4, 4), bool)
    prediction[0, 0, 2:4] = True
    prediction[3, 3, 3] = True
    counts = confusion(truth, prediction)
    assert (counts.both, counts.truth_only, counts.prediction_only, counts.neither) == (2, 2, 1, 59)
    assert (counts.truth, counts.prediction) == (4, 3)
    assert dice(truth, prediction) == 4 / 7


def test_dice_equals_the_sum_over_voxels() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        truth, prediction = rng.random((2, 5, 4, 3)) < 0.4
        assert dice(truth, prediction) == pytest.approx(naive.dice(truth, prediction), abs=1e-15)
        assert dice(truth, prediction) == dice(prediction, truth)
        assert dice(truth, truth) == 1.0
        assert dice(truth, ~truth) == 0.0


def test_dice_of_nothing_is_no_number() -> None:
    empty = np.zeros((2, 2, 2), bool)
    assert math.isnan(dice(empty, empty))
    assert dice(empty, ~empty) == 0.0
    assert dice(~empty, empty) == 0.0


def test_shapes_are_not_broadcast() -> None:
    with pytest.raises(ValueError, match="shape"):
        dice(np.ones((2, 2, 2), bool), np.ones((1, 2, 2), bool))


def test_volume() -> None:
    assert volume_ml(500, 0.8 * 0.8 * 3.0) == pytest.approx(0.96)


@pytest.mark.parametrize("case", CASES + CLASSES)
def test_published_dice_per_class_and_mean(case: str) -> None:
    with np.load(GOLDENS) as goldens:
        prediction, truth = goldens[f"{case}/logits"].argmax(axis=1), goldens[f"{case}/labels"]
        expected, mean = goldens[f"{case}/dice_nan_for_empty"], goldens[f"{case}/mean_with_background"][0]
    ours = [dice(truth == index, prediction == index) for index in range(len(expected))]
    np.testing.assert_allclose(ours, expected, rtol=1e-5, equal_nan=True)
    assert background_averaged_dice(truth, prediction, len(expected)) == pytest.approx(mean, rel=1e-5)


def test_published_dice_of_nested_regions_is_half_background() -> None:
    with np.load(GOLDENS) as goldens:
        logits, labels = goldens["nested/logits"][0], goldens["nested/labels"][0]
        parts, reported = goldens["nested/dice_per_region"], goldens["nested/evaluator_value"]
    for region in range(3):
        prediction, truth = logits[2 * region + 1] > logits[2 * region], labels[region] > 0
        assert dice(truth, prediction) == pytest.approx(parts[region, 1], rel=1e-5)
        assert background_averaged_dice(truth, prediction) == pytest.approx(reported[region], rel=1e-5)
        assert background_averaged_dice(truth, prediction) > dice(truth, prediction) + 0.1
