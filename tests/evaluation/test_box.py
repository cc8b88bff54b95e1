from __future__ import annotations

import numpy as np
import pytest

from frugalseg.evaluation.box import joint_box


@pytest.mark.parametrize("order", ["C", "F"])
def test_smallest_box_around_all_masks(order: str) -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        masks = rng.random((3, 6, 7, 8)) < 0.01
        box = joint_box([np.asarray(mask, order=order) for mask in masks])  # type: ignore[call-overload]
        places = np.argwhere(masks.any(axis=0))
        if len(places):
            assert [part.start for part in box] == places.min(axis=0).tolist()
            assert [part.stop for part in box] == (places.max(axis=0) + 1).tolist()
        else:
            assert masks[0][box].size == 0


def test_whole_and_nothing() -> None:
    full = np.ones((2, 3, 4), bool)
    assert full[joint_box([full, ~full])].shape == (2, 3, 4)
    assert full[joint_box([~full])].shape == (0, 0, 0)
    assert full[joint_box([])].shape == (0, 0, 0)
