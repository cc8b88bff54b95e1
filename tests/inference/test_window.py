"""Windows cover every voxel, and blending is invisible where the windows agree."""

from __future__ import annotations

import itertools
from collections.abc import Callable
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
    slabs,
    sliding_window,
    thin_axis,
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


def blended_at_once(image: Tensor, window: tuple[int, int, int], predict: Callable[[Tensor], Tensor]) -> Tensor:
    """All outputs of the whole volume, as they were blended before there were slabs. No padding."""
    weights = gaussian_weights(window)
    top, bottom = torch.zeros(2, *image.shape[1:]), torch.zeros(image.shape[1:])
    for place in itertools.product(*(window_starts(n, side, 0.6) for n, side in zip(image.shape[1:], window))):
        box = tuple(slice(start, start + side) for start, side in zip(place, window))
        top[(slice(None), *box)] += predict(image[(slice(None), *box)][None])[0] * weights
        bottom[box] += weights
    return top / bottom


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("shape", [(21, 9, 30), (8, 40, 7)])
def test_slabs_are_the_volume_and_hold_one_window(axis: int, shape: tuple[int, int, int]) -> None:
    image = torch.randn(1, *shape, generator=torch.Generator().manual_seed(axis))
    window = (8, 9, 7)

    def predict(windows: Tensor) -> Tensor:  # another answer in every window
        return torch.cat([windows.mean().sin() + windows, windows.std() * windows.cos()], dim=1)

    parts = list(slabs(image, window, predict, [0.0], axis, 0.6))
    assert max(part.shape[axis + 1] for part in parts) <= window[axis]
    wanted = blended_at_once(image, window, predict)
    torch.testing.assert_close(torch.cat(parts, dim=axis + 1), wanted, atol=1e-6, rtol=1e-6)
    assert len(parts) == len(window_starts(shape[axis], window[axis], 0.6))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slabs_of_a_padded_volume_leave_the_padding_out(axis: int) -> None:
    image = torch.randn(1, 5, 3, 11)
    out = torch.cat(list(slabs(image, (8, 8, 8), lambda w: w, [7.0], axis)), dim=axis + 1)
    torch.testing.assert_close(out, image)


def test_slabs_go_along_the_axis_that_needs_the_least_memory() -> None:
    assert thin_axis((512, 512, 300), (96, 96, 48)) == 2
    assert thin_axis((512, 300, 20), (96, 96, 20)) == 0
    assert thin_axis((8, 8, 8), (16, 16, 16)) == 0


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


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("batch", [1, 3])
def test_empty_windows_are_predicted_once_and_change_nothing(axis: int, batch: int) -> None:
    torch.manual_seed(0)
    image = torch.full((2, 30, 18, 21), -3.0)
    image[1] = 0.5
    image[:, 12:15, 2:9, 4:6] = torch.randn(2, 3, 7, 2)
    seen = []

    def predict(windows: Tensor) -> Tensor:
        seen.append(windows.clone())
        return windows.cumsum(dim=2).mean(dim=1, keepdim=True).repeat(1, 3, 1, 1, 1)

    window = (8, 8, 8)
    found = torch.cat(list(slabs(image, window, predict, [-3.0, 0.5], axis, 0.5, batch)), dim=axis + 1)
    once = torch.cat(seen)
    bare = [bool((part[0] == -3).all() and (part[1] == 0.5).all()) for part in once]
    assert sum(bare) == 1
    seen.clear()
    # Told another background, nothing is empty: each window is predicted.
    plain = torch.cat(list(slabs(image, window, predict, [9.0, 9.0], axis, 0.5, batch)), dim=axis + 1)
    assert len(torch.cat(seen)) > 2 * len(once)
    torch.testing.assert_close(found, plain, rtol=1e-5, atol=1e-5)


def test_a_volume_of_background_alone_is_predicted() -> None:
    found = sliding_window(torch.full((1, 20, 9, 9), 4.0), (8, 8, 8), lambda w: w + 1, [4.0])
    torch.testing.assert_close(found, torch.full((1, 20, 9, 9), 5.0))
