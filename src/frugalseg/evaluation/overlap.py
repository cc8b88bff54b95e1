"""How much two masks overlap: pure functions on boolean masks of the same shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Confusion:
    """Voxels in both masks, in one only, and in neither."""

    both: int
    truth_only: int
    prediction_only: int
    neither: int

    @property
    def truth(self) -> int:
        """Size of the truth in voxels."""
        return self.both + self.truth_only

    @property
    def prediction(self) -> int:
        """Size of the prediction in voxels."""
        return self.both + self.prediction_only

    @property
    def dice(self) -> float:
        """Twice the overlap over the sum of both sizes; NaN where both are empty: no value is right there."""
        sizes = self.truth + self.prediction
        return 2 * self.both / sizes if sizes else float("nan")


def check_shapes(truth: NDArray[Any], prediction: NDArray[Any]) -> None:
    """Refuse arrays of different shapes, which numpy would broadcast.

    Raises:
        ValueError: The shapes differ.
    """
    if truth.shape != prediction.shape:
        raise ValueError(f"truth has shape {truth.shape}, prediction {prediction.shape}")


def confusion(truth: Mask, prediction: Mask) -> Confusion:
    """Count the voxels of two masks of the same shape.

    Raises:
        ValueError: The shapes differ.
    """
    check_shapes(truth, prediction)
    both = int(np.count_nonzero(truth & prediction))
    in_truth, in_prediction = int(np.count_nonzero(truth)), int(np.count_nonzero(prediction))
    neither = truth.size - in_truth - in_prediction + both
    return Confusion(both, in_truth - both, in_prediction - both, neither)


def dice(truth: Mask, prediction: Mask) -> float:
    """Return the Dice overlap of two masks of the same shape, in 0 to 1; NaN where both are empty.

    Raises:
        ValueError: The shapes differ.
    """
    return confusion(truth, prediction).dice


def volume_ml(voxels: int, voxel_volume_mm3: float) -> float:
    """Return the volume of so many voxels in millilitres (1000 cubic millimetres)."""
    return voxels * voxel_volume_mm3 / 1000.0


def background_averaged_dice(truth: NDArray[Any], prediction: NDArray[Any], classes: int = 2) -> float:
    """Return the mean of the Dice of every class, the background as one of them: not a foreground Dice.

    The code published with Iwasawa et al. 2020 reports this as the Dice of a region, so it is here to compare with.
    The background is large, hence nearly always right: the value of an empty prediction is about 0.5. A class that
    is absent from both counts as 0, as published.

    Args:
        truth: Class indices 0 to `classes` - 1, or a mask, which is two classes.
        prediction: The same, of the same shape.
        classes: Number of classes, background included.

    Raises:
        ValueError: The shapes differ.
    """
    values = [dice(truth == index, prediction == index) for index in range(classes)]
    return float(np.mean(np.nan_to_num(values, nan=0.0)))
