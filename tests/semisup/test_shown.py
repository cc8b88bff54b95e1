"""A channel that a case lacks has no say: neither in where it is laid, nor in how alike it looks."""

from __future__ import annotations

import numpy as np
import pytest

from frugalseg.semisup.fusion import FusionSettings, vote
from frugalseg.semisup.registration import RegistrationSettings, register
from frugalseg.semisup.shown import shown_by_both
from tests.semisup.test_registration import SIDES, SPACING, blobs


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
    shares = np.zeros((2, 1, 2, 9, 8, 7), np.float32)
    shares[0, :, 0] = shares[1, :, 1] = 1
    settings = FusionSettings(search=0)
    wanted = vote(target, (1, 1, 1), [(near, shares[0]), (far, shares[1])], settings)
    other, nothing = 5 * blobs((9, 8, 7), 4), np.zeros((1, 9, 8, 7), np.float32)
    two = [np.concatenate([near, nothing]), np.concatenate([far, other])]
    found = vote(np.concatenate([target, nothing]), (1, 1, 1), list(zip(two, shares, strict=True)), settings)
    assert found == pytest.approx(wanted)
    lacks = [(np.concatenate([near, nothing]), shares[0]), (np.concatenate([far, nothing]), shares[1])]
    assert vote(np.concatenate([target, other]), (1, 1, 1), lacks, settings) == pytest.approx(wanted)
