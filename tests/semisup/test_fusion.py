"""Locally weighted voting, against loops over voxels and by what it must do."""

from __future__ import annotations

import numpy as np
import pytest

from frugalseg.semisup.fusion import FusionSettings, fuse, local_weights

SIDES = (5, 4, 6)


def test_it_equals_a_loop_over_voxels() -> None:
    generator = np.random.default_rng(0)
    target = generator.standard_normal((2, *SIDES)).astype(np.float32)
    images = [generator.standard_normal((2, *SIDES)).astype(np.float32) for _ in range(3)]
    labels = [
        generator.dirichlet([1, 1, 1], (1, *SIDES)).astype(np.float32).transpose(0, 4, 1, 2, 3) for _ in range(3)
    ]
    settings = FusionSettings(radius=1, decay=0.5)
    found = fuse(target, images, labels, settings)
    for place in np.ndindex(*SIDES):
        apart = []
        for image in images:
            total = 0.0
            for step in np.ndindex(3, 3, 3):
                at = tuple(np.clip(np.add(place, step) - 1, 0, np.array(SIDES) - 1))  # the edge goes on
                total += float(np.square(image[(slice(None), *at)] - target[(slice(None), *at)]).mean()) / 27
            apart.append(total)
        weights = np.exp(-(np.array(apart) - min(apart)) / 0.5)
        wanted = sum(w * label[(0, slice(None), *place)] for w, label in zip(weights / weights.sum(), labels))
        assert found[(0, slice(None), *place)] == pytest.approx(wanted, abs=1e-4)
    assert found.sum(axis=1) == pytest.approx(np.ones((1, *SIDES)), abs=1e-5)


def test_who_looks_alike_decides_and_all_alike_vote() -> None:
    target = np.zeros((1, *SIDES), np.float32)
    far = np.full_like(target, 10.0)
    yes, no = np.ones((1, 1, *SIDES), np.float32), np.zeros((1, 1, *SIDES), np.float32)
    settings = FusionSettings()
    assert fuse(target, [target, far], [yes, no], settings) == pytest.approx(yes, abs=1e-6)
    assert fuse(target, [far, target], [yes, no], settings) == pytest.approx(no, abs=1e-6)
    assert fuse(target, [far, far, far], [yes, yes, no], settings) == pytest.approx(2 / 3 * yes, abs=1e-6)
    assert local_weights(target, [far, far], settings).sum(axis=0) == pytest.approx(np.ones(SIDES))
