"""Validation's Dice of class indices: by hand, with what the label does not know left out."""

from __future__ import annotations

import math

import numpy as np
import pytest

from frugalseg.data.scheme import IGNORED
from frugalseg.jobs.validate import known_dice


def test_by_hand() -> None:
    truth = np.array([1, 1, 0, 0, 2, IGNORED], np.uint8).reshape(1, 6, 1, 1)
    found = np.array([1, 0, 1, 0, 0, 2], np.uint8).reshape(1, 6, 1, 1)
    # Class 1: one of two found, one too many; class 2: missed, what is found in the ignored voxel does not count;
    # class 3: in neither.
    scores = known_dice(truth, found, 4, None)
    assert scores[:2] == pytest.approx([0.5, 0.0])
    assert math.isnan(scores[2])
    scores = known_dice(truth, found, 4, (True, False, True))
    assert scores[0] == pytest.approx(0.5)
    assert math.isnan(scores[1])
    missed = known_dice(np.where(truth == 2, 0, truth), found, 4, None)
    assert math.isnan(missed[1])  # the only voxel of class 2 is where nothing is known


def test_regions() -> None:
    truth = np.array([[1, 1, 0], [1, 0, 0]], np.uint8).reshape(2, 3, 1, 1)
    found = np.array([[1, 1, 0], [0, 0, 1]], np.uint8).reshape(2, 3, 1, 1)
    assert known_dice(truth, found, 2, None) == [1.0, 0.0]
    scores = known_dice(truth, found, 2, (True, False))
    assert scores[0] == 1.0
    assert math.isnan(scores[1])
