"""Whether a probability of 0.8 is right eight times in ten, and the one number that makes it so.

Temperature scaling (Guo et al. 2017, "On calibration of modern neural networks"): the logits divided by T, which is
found by the likelihood of labels that the model has not seen. It moves no voxel to another class. The expected
calibration error is the mean gap between confidence and accuracy over 15 bins of equal width, weighted by their
voxels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from frugalseg.errors import DataError

BINS = 15
SMALLEST, LARGEST = 0.05, 20.0
_FLOOR = 1e-7  # probabilities come in float32: below this they are 0, and a likelihood infinite

Probabilities = NDArray[np.floating]


def tempered(probabilities: Probabilities, temperature: float) -> NDArray[np.float64]:
    """Return the probabilities (n, classes) that logits divided by the temperature have."""
    logits = np.log(np.clip(probabilities.astype(np.float64), _FLOOR, 1.0)) / temperature
    logits -= logits.max(axis=1, keepdims=True)
    values = np.exp(logits)
    return np.asarray(values / values.sum(axis=1, keepdims=True))


def negative_log_likelihood(probabilities: Probabilities, labels: NDArray[np.integer], temperature: float) -> float:
    """Return the mean of -log p of the right class."""
    chosen = tempered(probabilities, temperature)[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(chosen, _FLOOR)).mean())


def fit_temperature(probabilities: Probabilities, labels: NDArray[np.integer]) -> float:
    """Return the temperature of the largest likelihood, between 0.05 and 20.

    Args:
        probabilities: Of voxels of cases that the model has not trained on, (n, classes).
        labels: Their classes, (n,).

    Raises:
        DataError: No voxel, or shapes that do not fit.
    """
    from scipy.optimize import minimize_scalar

    _check(probabilities, labels)
    # The likelihood has a single maximum in 1 / T, for it is concave there; the logarithm keeps the order.
    found = minimize_scalar(
        lambda value: negative_log_likelihood(probabilities, labels, float(np.exp(value))),
        bounds=(np.log(SMALLEST), np.log(LARGEST)),
        method="bounded",
        options={"xatol": 1e-4},
    )
    return float(np.exp(found.x))


def calibration_error(probabilities: Probabilities, labels: NDArray[np.integer], bins: int = BINS) -> float:
    """Return the expected calibration error of the most probable class.

    Raises:
        DataError: As `fit_temperature`.
    """
    _check(probabilities, labels)
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == labels
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = np.bincount(place, confidence - right, minlength=bins)
    return float(np.abs(gaps).sum() / len(labels))


def _check(probabilities: Probabilities, labels: NDArray[np.integer]) -> None:
    if probabilities.ndim != 2 or len(labels) != len(probabilities) or not len(labels):
        raise DataError(
            f"calibration needs probabilities (n, classes) and n labels, not {probabilities.shape} and "
            f"{labels.shape}"
        )
