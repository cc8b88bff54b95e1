"""Dice of classes, of regions, and averaged with the background: the published code's numbers."""

from __future__ import annotations

import numpy as np
import pytest

from frugalseg.evaluation.overlap import background_averaged_dice, dice
from tests.parity.goldens import LOSSES, Goldens

CASES = {
    "two_class": 2,
    "both_empty": 2,
    "prediction_empty": 2,
    "truth_empty": 2,
    "perfect": 2,
    "four_class_batch2": 4,
    "four_class_blob": 4,
    "four_class_no_enhancing": 4,
}
# Order of the stored values: background, enhancing tumour, tumour core, whole tumour.
REGIONS = ([0], [3], [2, 3], [1, 2, 3])


@pytest.fixture(scope="module")
def goldens() -> Goldens:
    return Goldens("metrics")


@pytest.mark.parametrize("case", CASES)
def test_dice_of_each_class_and_their_mean(goldens: Goldens, case: str) -> None:
    # The published sums go over the batch, too: one image of all its voxels.
    truth = goldens[f"{case}/labels"].numpy()
    found = goldens[f"{case}/logits"].argmax(dim=1).numpy()
    scores = [dice(truth == index, found == index) for index in range(CASES[case])]
    np.testing.assert_allclose(scores, goldens[f"{case}/dice_nan_for_empty"].numpy(), **LOSSES)
    np.testing.assert_allclose(np.nan_to_num(scores), goldens[f"{case}/dice"].numpy(), **LOSSES)
    mean = background_averaged_dice(truth, found, CASES[case])
    np.testing.assert_allclose(mean, goldens[f"{case}/mean_with_background"].numpy()[0], **LOSSES)


@pytest.mark.parametrize("case", [case for case, classes in CASES.items() if classes == 4])
def test_dice_of_regions(goldens: Goldens, case: str) -> None:
    truth = goldens[f"{case}/labels"].numpy()
    found = goldens[f"{case}/logits"].argmax(dim=1).numpy()
    scores = [dice(np.isin(truth, members), np.isin(found, members)) for members in REGIONS]
    np.testing.assert_allclose(scores, goldens[f"{case}/dice_brats_nan_for_empty"].numpy(), **LOSSES)


def test_what_the_published_evaluator_reports_of_nested_regions(goldens: Goldens) -> None:
    truth = goldens["nested/labels"].numpy()[0]
    found = goldens["nested/logits"].numpy().reshape(3, 2, *truth.shape[1:]).argmax(axis=1)
    for region in range(3):
        scores = [dice(truth[region] == index, found[region] == index) for index in (0, 1)]
        np.testing.assert_allclose(scores, goldens["nested/dice_per_region"].numpy()[region], **LOSSES)
        mean = background_averaged_dice(truth[region], found[region])
        np.testing.assert_allclose(mean, goldens["nested/evaluator_value"].numpy()[region], **LOSSES)
