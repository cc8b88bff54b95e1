"""Temperature and calibration error against made-up models whose miscalibration is known, and by hand."""

from __future__ import annotations

import numpy as np
import pytest

from frugalseg.errors import DataError
from frugalseg.evaluation.calibration import (
    calibration_error,
    fit_temperature,
    negative_log_likelihood,
    tempered,
)


def made_up(temperature: float, count: int = 40_000, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from true probabilities, and a model whose logits are the true ones times the temperature."""
    generator = np.random.default_rng(0)
    logits = 2 * generator.normal(size=(count, classes))
    true = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (generator.random((count, 1)) > true.cumsum(axis=1)).sum(axis=1)
    return tempered(true, 1 / temperature), labels


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 4.0])
def test_the_temperature_of_an_overconfident_model_is_found(temperature: float) -> None:
    probabilities, labels = made_up(temperature)
    assert fit_temperature(probabilities, labels) == pytest.approx(temperature, rel=0.05)


def test_scaling_mends_the_error_and_moves_no_voxel() -> None:
    probabilities, labels = made_up(3.0)
    mended = tempered(probabilities, fit_temperature(probabilities, labels))
    assert calibration_error(probabilities, labels) > 0.15
    assert calibration_error(mended, labels) < 0.01
    np.testing.assert_array_equal(probabilities.argmax(axis=1), mended.argmax(axis=1))


def test_by_hand() -> None:
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.2, 0.8], [0.2, 0.8]])
    labels = np.array([0, 1, 1, 1])
    # Confidence 0.9 is right in 1 of 2, confidence 0.8 in 2 of 2.
    assert calibration_error(probabilities, labels) == pytest.approx((2 * 0.4 + 2 * 0.2) / 4)
    expected = -(np.log(0.9) + np.log(0.1) + 2 * np.log(0.8)) / 4
    assert negative_log_likelihood(probabilities, labels, 1.0) == pytest.approx(expected)


def test_tempered_by_hand_and_at_1() -> None:
    probabilities = np.array([[0.8, 0.2]])
    np.testing.assert_allclose(tempered(probabilities, 1.0), probabilities)
    np.testing.assert_allclose(tempered(probabilities, 0.5), [[0.64 / 0.68, 0.04 / 0.68]])


def test_certain_and_wrong_is_finite() -> None:
    probabilities, labels = np.array([[1.0, 0.0]] * 9 + [[1.0, 0.0]]), np.array([0] * 9 + [1])
    assert np.isfinite(negative_log_likelihood(probabilities, labels, 1.0))
    assert fit_temperature(probabilities, labels) > 3


def test_shapes() -> None:
    with pytest.raises(DataError, match=r"not \(2, 2\) and \(3,\)"):
        calibration_error(np.ones((2, 2)), np.zeros(3, int))
    with pytest.raises(DataError, match="calibration needs"):
        fit_temperature(np.ones((0, 2)), np.zeros(0, int))
