"""Locally weighted voting, against loops over voxels and by what it must do."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from frugalseg.semisup.fusion import difference, local_weights, vote

Floats = NDArray[np.float32]
SIDES = (5, 4, 6)


def test_it_equals_a_loop_over_voxels() -> None:
    generator = np.random.default_rng(0)
    target = generator.standard_normal((2, *SIDES)).astype(np.float32)
    images = [generator.standard_normal((2, *SIDES)).astype(np.float32) for _ in range(3)]
    labels = [
        generator.dirichlet([1, 1, 1], (1, *SIDES)).astype(np.float32).transpose(0, 4, 1, 2, 3) for _ in range(3)
    ]
    found = vote(local_weights([difference(target, image, 1) for image in images], 0.5), labels)
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


def fuse(target: Floats, images: list[Floats], labels: list[Floats]) -> Floats:
    return vote(local_weights([difference(target, image, 2) for image in images], 0.1), labels)


def test_who_looks_alike_decides_and_all_alike_vote() -> None:
    target = np.zeros((1, *SIDES), np.float32)
    far = np.full_like(target, 10.0)
    yes, no = np.zeros((1, 2, *SIDES), np.float32), np.zeros((1, 2, *SIDES), np.float32)
    yes[:, 1], no[:, 0] = 1, 1
    assert fuse(target, [target, far], [yes, no]) == pytest.approx(yes, abs=1e-6)
    assert fuse(target, [far, target], [yes, no]) == pytest.approx(no, abs=1e-6)
    assert fuse(target, [far, far, far], [yes, yes, no])[0, 1] == pytest.approx(2 / 3 * yes[0, 1], abs=1e-6)
    assert local_weights([far[0], far[0]], 0.1).sum(axis=0) == pytest.approx(np.ones(SIDES))


def test_who_knows_nothing_does_not_vote() -> None:
    target = np.zeros((1, *SIDES), np.float32)
    yes, nothing = np.zeros((1, 2, *SIDES), np.float32), np.zeros((1, 2, *SIDES), np.float32)
    yes[:, 1] = 1
    assert fuse(target, [target] * 2, [yes, nothing]) == pytest.approx(yes, abs=1e-6)
    assert not fuse(target, [target] * 3, [yes, nothing, nothing]).any()
