"""Votes that are kept in parts are those of the whole volume."""

from __future__ import annotations

import numpy as np
import pytest

from frugalseg.data.warp import box_of
from frugalseg.semisup.votes import Votes, Weighed

SIDES = (7, 5, 6)


def votes() -> tuple[Votes, np.ndarray]:
    """Votes in two boxes, and the same by hand: background, nothing, or what a box says."""
    generator = np.random.default_rng(0)
    known = generator.random(SIDES) > 0.3
    whole = np.zeros((2, 3, *SIDES), np.float32)
    whole[:, 0] = known
    parts = []
    for first, sides in (((0, 1, 2), (3, 3, 4)), ((3, 0, 0), (4, 5, 2))):
        shares = generator.dirichlet([1, 1, 1], (2, *sides)).astype(np.float32).transpose(0, 4, 1, 2, 3)
        where = generator.random(sides) > 0.4
        parts.append(Weighed(box_of(first, sides), where, shares))
        for voxel in np.argwhere(where):
            place = tuple(np.add(voxel, first))
            whole[(slice(None), slice(None), *place)] = shares[(slice(None), slice(None), *voxel)]
    return Votes(known, tuple(parts), (2, 3)), whole


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_slab_is_that_of_the_whole(axis: int) -> None:
    kept, wanted = votes()
    for start, stop in ((0, SIDES[axis]), (1, 4), (4, 5)):
        assert np.array_equal(kept.slab(axis, start, stop), wanted.take(range(start, stop), axis=axis + 2))
    assert np.array_equal(kept.whole(), wanted)


def test_rounding_is_to_the_nearest_of_255(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("frugalseg.semisup.votes.SLAB", 3)
    kept, wanted = votes()
    found = kept.rounded()
    assert found.dtype == np.uint8
    assert found.astype(float) / 255 == pytest.approx(wanted, abs=0.5 / 255 + 1e-6)
