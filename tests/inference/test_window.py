"""Windows cover every voxel, and blending is invisible where the windows agree."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from frugalseg.inference.window import (
    class_indices,
    gaussian_weights,
    probabilities,
    sliding_window,
    window_starts,
    with_flips,
)


@given(st.integers(1, 200), st.integers(1, 64), st.floats(0, 0.9))
@settings(max_examples=200, deadline=None)
def test_windows_cover_every_voxel_and_stay_inside(size: int, window: int, overlap: float) -> None:
    starts = window_starts(size, window, overlap)
    covered = set()
    for start in starts:
        covered |= set(range(start, start + window))
        assert start >= 0
        assert start + window <= max(size, window)
    assert covered >= set(range(size))
    step = max([b - a for a, b in pairwise(starts)], default=0)
    assert step <= max(1, round(window * (1 - overlap)) + 1)


@pytest.mark.parametrize("shape", [(20, 17, 9), (8, 8, 8), (5, 30, 3)])
@pytest.mark.parametrize("batch", [1, 3])
def test_a_pointwise_network_gives_the_volume_back(shape: tuple[int, int, int], batch: int) -> None:
    image = torch.randn(2, *shape)
    out = sliding_window(image, (8, 8, 8), lambda w: w * 2 + 1, [0.0, 0.0], 0.5, batch)
    torch.testing.assert_close(out, image * 2 + 1)


def test_against_a_plain_loop() -> None:
    image = torch.randn(1, 13, 8, 8)
    weights = gaussian_weights((8, 8, 8))

    def predict(windows: Tensor) -> Tensor:
        return windows.mean(dim=(2, 3, 4), keepdim=True).expand(len(windows), 1, 8, 8, 8)

    top, bottom = torch.zeros(13, 8, 8), torch.zeros(13, 8, 8)
    for start in window_starts(13, 8, 0.5):
        top[start : start + 8] += image[0, start : start + 8].mean() * weights
        bottom[start : start + 8] += weights
    torch.testing.assert_close(sliding_window(image, (8, 8, 8), predict, [0.0])[0], top / bottom)


def test_padding_has_the_background_value() -> None:
    seen: list[Tensor] = []

    def predict(windows: Tensor) -> Tensor:
        seen.append(windows)
        return windows

    sliding_window(torch.ones(1, 4, 8, 8), (8, 8, 8), predict, [-3.0])
    assert set(seen[0].unique().tolist()) == {1.0, -3.0}


def test_flips_are_undone_and_averaged() -> None:
    windows = torch.randn(1, 1, 4, 4, 4)
    torch.testing.assert_close(with_flips(lambda w: w, (0, 2))(windows), windows)
    ramp = torch.arange(4.0).reshape(1, 1, 4, 1, 1).expand(1, 1, 4, 4, 4)
    # A network that ignores its input and sees a ramp: the flip turns the ramp round.
    assert with_flips(lambda _: ramp, (0,))(windows).unique().tolist() == [1.5]


def test_probabilities_by_group() -> None:
    logits = torch.randn(2, 6, 2, 2, 2)
    p = probabilities(logits, 3, 2)
    torch.testing.assert_close(p.reshape(2, 3, 2, 2, 2, 2).sum(dim=2), torch.ones(2, 3, 2, 2, 2))
    indices = class_indices(p[0], 3, 2)
    assert indices.shape == (3, 2, 2, 2)
    assert torch.equal(indices[1].bool(), logits[0, 3] > logits[0, 2])
