"""A channel that a case lacks has no say: neither in where it is laid, nor in how alike it looks."""

from __future__ import annotations

import numpy as np
import pytest

from frugalseg.data.warp import Floats
from frugalseg.semisup.atlas import Labelled, fused
from frugalseg.semisup.fusion import FusionSettings
from frugalseg.semisup.registration import RegistrationSettings, register
from frugalseg.semisup.shown import shown_by_both
from tests.semisup.test_registration import SIDES, SPACING, blobs

CUBES = (1.0, 1.0, 1.0)


def test_which() -> None:
    full = np.concatenate([blobs(SIDES, 1), blobs(SIDES, 2)])
    lacks = np.concatenate([full[:1], np.zeros_like(full[1:])])
    other = np.concatenate([np.zeros_like(full[:1]), full[1:]])
    assert shown_by_both(full, full).tolist() == [0, 1]
    assert shown_by_both(full, lacks).tolist() == shown_by_both(lacks, full).tolist() == [0]
    assert shown_by_both(lacks, other).tolist() == [0, 1]


def test_a_missing_channel_changes_nothing() -> None:
    moving, fixed = blobs(SIDES, 1), blobs(SIDES, 2)
    settings = RegistrationSettings(iterations=5)
    alone = register(moving, fixed, SPACING, SPACING, settings)
    nothing, something = np.zeros_like(moving), 3 * blobs(SIDES, 3)
    for left, right in ((nothing, something), (something, nothing), (nothing, nothing)):
        found = register(np.concatenate([moving, left]), np.concatenate([fixed, right]), SPACING, SPACING, settings)
        assert np.array_equal(found, alone)
    both = register(
        np.concatenate([moving, something]), np.concatenate([fixed, something]), SPACING, SPACING, settings
    )
    assert not np.array_equal(both, alone)


def test_who_lacks_a_channel_votes_by_the_others() -> None:
    target, near, far = blobs((9, 8, 7), 1), blobs((9, 8, 7), 1) + 0.1, blobs((9, 8, 7), 1) + 0.6
    still = np.zeros((3, 9, 8, 7), np.float32)

    def found(target: Floats, images: list[Floats]) -> Floats:
        cases = [Labelled(image, np.full((1, 9, 8, 7), k, np.uint8), CUBES) for k, image in enumerate(images)]
        return fused(target, CUBES, cases, lambda _, box: still[:, *box], 2, FusionSettings(search=0)).whole()

    wanted = found(target, [near, far])
    assert not np.allclose(wanted, 0.5, atol=0.1), "how alike they look says nothing"
    other, nothing = 5 * blobs((9, 8, 7), 4), np.zeros((1, 9, 8, 7), np.float32)
    two = [np.concatenate([near, nothing]), np.concatenate([far, other])]
    assert found(np.concatenate([target, nothing]), two) == pytest.approx(wanted)
    lacks = [np.concatenate([near, nothing]), np.concatenate([far, nothing])]
    assert found(np.concatenate([target, other]), lacks) == pytest.approx(wanted)
