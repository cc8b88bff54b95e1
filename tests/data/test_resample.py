"""Resampling against scipy, by hand, and by what must not change: constants, ramps, small structures, extent."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from frugalseg.data.resample import (
    Kind,
    coarse_axes,
    new_shape,
    resample_image,
    resample_target,
    stream_back,
    weights,
)
from frugalseg.data.scheme import IGNORED

Triple = tuple[int, int, int]
SHAPES = st.tuples(*[st.integers(1, 12)] * 3)
KINDS: tuple[Kind, ...] = ("cubic", "linear", "votes")


def test_new_shapes_by_hand() -> None:
    assert new_shape((512, 512, 60), (1, 1, 5), (1, 1, 5)) == (512, 512, 60)
    assert new_shape((100, 50, 11), (0.5, 1.5, 5), (1, 1, 2.5)) == (50, 75, 22)
    assert new_shape((64, 3, 1), (1, 1, 5), (1, 40, 1)) == (64, 1, 1)  # never fewer than one, never more than one


def test_axes_are_coarse_beyond_three_times_the_finest() -> None:
    assert coarse_axes((1, 1, 3)) == (False, False, False)
    assert coarse_axes((1, 1, 3.1)) == (False, False, True)
    assert coarse_axes((1, 1, 1), (1, 4, 1)) == (False, True, False)


def test_weights_by_hand() -> None:
    # Twice as fine: the centres of the new voxels lie a quarter of an old one beside the old centres.
    np.testing.assert_allclose(weights(2, 4, "linear"), np.array([[4, 0], [3, 1], [1, 3], [0, 4]]) / 4, atol=1e-7)
    np.testing.assert_array_equal(weights(2, 4, "votes"), weights(2, 4, "linear"))
    # Twice as coarse: halfway between two centres; three into two: a third of the new voxel is half of the old one.
    np.testing.assert_allclose(weights(4, 2, "linear"), [[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]], atol=1e-7)
    np.testing.assert_allclose(weights(3, 2, "votes"), [[2 / 3, 1 / 3, 0], [0, 1 / 3, 2 / 3]], atol=1e-7)
    # Five into one: linear looks at the one in the middle, votes count all.
    np.testing.assert_allclose(weights(5, 1, "linear"), [[0.0, 0.0, 1.0, 0.0, 0.0]])
    np.testing.assert_allclose(weights(5, 1, "votes"), [[0.2] * 5], atol=1e-7)


@given(old=st.integers(1, 40), new=st.integers(1, 40), kind=st.sampled_from(KINDS))
@settings(max_examples=150, deadline=None)
def test_a_constant_stays_and_a_ramp_stays_that_ramp(old: int, new: int, kind: Kind) -> None:
    matrix = weights(old, new, kind)
    assert matrix.shape == (new, old)
    np.testing.assert_allclose(matrix @ np.full(old, 7, np.float32), 7, atol=1e-5)
    assert np.array_equal(weights(old, old, kind), np.eye(old))
    if kind == "votes" and new < old:
        assert (matrix.max(axis=0) > 0).all()  # no voxel is passed over
        np.testing.assert_allclose(matrix.sum(axis=0), new / old, rtol=1e-4)
        return
    ramp = np.arange(old, dtype=np.float32)
    places = (np.arange(new) + 0.5) * old / new - 0.5
    # A spline feels the end of the axis, by a factor of 0.27 less a voxel.
    margin = 9 if kind == "cubic" else 0
    inside = (places >= margin) & (places <= old - 1 - margin)
    np.testing.assert_allclose((matrix @ ramp)[inside], places[inside], atol=1e-4)


@given(old=SHAPES, new=SHAPES, seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_images_are_scipys(old: Triple, new: Triple, seed: int) -> None:
    image = np.random.default_rng(seed).normal(0, 1, (2, *old)).astype(np.float32)
    found = resample_image(image, new)
    axes = [(np.arange(b) + 0.5) * a / b - 0.5 for a, b in zip(old, new)]
    places = np.meshgrid(*axes, indexing="ij")
    for channel, values in zip(image, found, strict=True):
        wanted = ndimage.map_coordinates(channel.astype(np.float64), places, order=3, mode="nearest")
        np.testing.assert_allclose(values, wanted, atol=2e-4)
    coarse = resample_image(image, new, (True, True, True))
    wanted = ndimage.map_coordinates(image[0].astype(np.float64), places, order=1, mode="nearest")
    np.testing.assert_allclose(coarse[0], wanted, atol=1e-5)


def test_between_coarse_slices_nothing_swings_over() -> None:
    image = np.zeros((1, 8, 8, 4), np.float32)
    image[..., 2:] = 1
    separate = resample_image(image, (8, 8, 20), (False, False, True))
    assert separate.min() >= 0
    assert separate.max() <= 1 + 1e-6
    spline = resample_image(image, (8, 8, 20))
    assert spline.max() > 1.05
    assert spline.min() < -0.05


def test_the_same_number_of_voxels_is_the_same_array() -> None:
    image, target = np.ones((1, 3, 4, 5), np.float32), np.ones((1, 3, 4, 5), np.uint8)
    assert resample_image(image, (3, 4, 5)) is image
    assert resample_target(target, (3, 4, 5), 2) is target


def naive_target(target: NDArray[np.uint8], new: Triple, classes: int) -> NDArray[np.uint8]:
    """Each class by itself, all axes at once, then the first of the largest; nothing is kept from vanishing."""
    x, y, z = (weights(a, b, "votes").astype(np.float64) for a, b in zip(target.shape[1:], new))
    ignored = np.einsum("ai,bj,ck,ijk->abc", x, y, z, target[0] == IGNORED)
    result = []
    for group in target:
        votes = [np.einsum("ai,bj,ck,ijk->abc", x, y, z, group == index) for index in range(classes)]
        winner = np.round(np.stack(votes), 5).argmax(axis=0)
        winner[np.round(ignored, 5) > 0.5] = IGNORED
        result.append(winner)
    return np.stack(result).astype(np.uint8)


@given(old=SHAPES, new=SHAPES, seed=st.integers(0, 99), groups=st.integers(1, 2), ignored=st.booleans())
@settings(max_examples=60, deadline=None)
def test_labels_are_a_vote_of_the_classes(old: Triple, new: Triple, seed: int, groups: int, ignored: bool) -> None:
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 3, (groups, 3, 3, 3)).astype(np.uint8)
    x, y, z = (np.arange(side) * 3 // side for side in old)
    target: NDArray[np.uint8] = coarse[:, x[:, None, None], y[None, :, None], z[None, None, :]]
    if ignored:
        target[:, generator.random(old) < 0.3] = IGNORED
    found = resample_target(target, new, 3)
    wanted = naive_target(target, new, 3)
    assert np.array_equal(found == IGNORED, wanted == IGNORED)  # in every group the same
    for before, group, right in zip(target, found, wanted):
        differing = group != right
        # Ties may fall either way where a class has exactly as many votes as another; beyond them nothing differs
        # but the one voxel each that a class is kept by.
        kept = [index for index in (1, 2) if (right == index).sum() == 0 and (before == index).any()]
        assert differing.sum() <= len(kept) + 0.05 * right.size
        for index in range(1, 3):
            if (before == index).any() and np.prod(new) >= 8 and not ignored:
                assert (group == index).any()
        assert set(np.unique(group)) <= set(np.unique(before)) | {0}


def test_a_structure_of_one_voxel_stays_where_it_was() -> None:
    target = np.zeros((1, 30, 30, 30), np.uint8)
    target[0, 7, 22, 13] = 1
    target[0, 8, 22, 13] = 2
    target[0, 20:, :, :] = 3
    found = resample_target(target, (15, 15, 6), 4)[0]
    assert [int((found == index).sum()) for index in (1, 2)] == [1, 1]
    assert np.argwhere(found == 1).tolist() == [[3, 11, 2]]
    assert np.argwhere(found == 2).tolist() == [[4, 11, 2]]
    assert (found[10:] == 3).all()


def test_two_lost_structures_do_not_take_each_others_voxel() -> None:
    target = np.zeros((1, 12, 10, 10), np.uint8)
    target[0, 4, 4, 2] = 1
    target[0, 4:7, 4, 3] = 2  # also in the other half, where it is weaker
    found = resample_target(target, (2, 2, 2), 5)[0]
    assert np.argwhere(found == 1).tolist() == [[0, 0, 0]]
    assert np.argwhere(found == 2).tolist() == [[1, 0, 0]]
    # No room for both: one stays, and nothing is put where it is not.
    found = resample_target(target[:, :6], (2, 2, 2), 5)[0]
    assert (found > 0).sum() == 1 + ((target[0, 3:6] == 2).any() and (target[0, :3] > 0).any())


def test_what_lies_in_ignored_voxels_is_not_kept() -> None:
    target = np.full((2, 4, 2, 2), IGNORED, np.uint8)
    target[:, :, 1] = 0
    target[0, 0, 0, 0], target[1, 0, 0, 0] = 1, 0
    found = resample_target(target, (2, 1, 1), 2)
    assert found[:, :, 0, 0].tolist() == [[1, 0], [0, 0]]
    found = resample_target(target[:, :2, :1], (1, 1, 1), 2)
    assert found.ravel().tolist() == [IGNORED, IGNORED]


def test_ignored_voxels_are_ignored_where_they_are_more_than_half() -> None:
    target = np.zeros((2, 4, 1, 1), np.uint8)
    target[:, :, 0, 0] = [[IGNORED, IGNORED, IGNORED, 1], [IGNORED, IGNORED, IGNORED, 0]]
    found = resample_target(target, (2, 1, 1), 2)[:, :, 0, 0]
    assert found.tolist() == [[IGNORED, 1], [IGNORED, 0]]  # half and half: the rest votes


@given(
    old=SHAPES,
    new=SHAPES,
    axis=st.integers(0, 2),
    cuts=st.lists(st.integers(1, 11), max_size=3),
    seed=st.integers(0, 9),
)
@settings(max_examples=60, deadline=None)
def test_blocks_give_what_the_whole_gives(old: Triple, new: Triple, axis: int, cuts: list[int], seed: int) -> None:
    volume = np.random.default_rng(seed).random((2, *old)).astype(np.float32)
    x, y, z = (weights(a, b, "votes") for a, b in zip(old, new))
    wanted = np.einsum("ai,bj,ck,oijk->oabc", x, y, z, volume)
    edges = sorted({0, *(cut for cut in cuts if cut < old[axis]), old[axis]})
    blocks = [np.take(volume, range(a, b), axis + 1) for a, b in pairwise(edges)]
    found = list(stream_back(blocks, axis, old, new))
    np.testing.assert_allclose(np.concatenate(found, axis=axis + 1), wanted, atol=1e-5)


def test_of_a_long_volume_only_a_few_rows_are_held_at_a_time() -> None:
    ahead = []

    def blocks() -> Iterator[NDArray[np.float32]]:
        for start in range(0, 400, 8):
            ahead.append(start)
            yield np.ones((1, 8, 4, 4), np.float32)

    seen = 0
    for block in stream_back(blocks(), 0, (400, 4, 4), (800, 8, 8)):
        seen += block.shape[1]
        assert block.shape[1] <= 16
        assert 2 * (ahead[-1] + 8) - seen <= 20  # nothing is held back beyond the neighbours that it needs
    assert seen == 800


def sphere(
    shape: Triple, spacing: tuple[float, ...], radius: float, shift: NDArray[np.float64]
) -> NDArray[np.bool_]:
    axes = [(np.arange(n) - (n - 1) / 2 - s) * d for n, d, s in zip(shape, spacing, shift)]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    return np.asarray(x**2 + y**2 + z**2 <= radius**2)


def there_and_back(mask: NDArray[np.bool_], new: Triple) -> float:
    target = resample_target(mask[None].astype(np.uint8), new, 2)[0]
    probability = np.stack([target == 0, target == 1]).astype(np.float32)
    blocks = stream_back([probability], 0, new, mask.shape)
    back = np.concatenate(list(blocks), axis=1).argmax(axis=0) == 1
    return float(2 * (mask & back).sum() / (mask.sum() + back.sum()))


# What docs/data.md states. Spheres of 6 voxels' radius or more.
@pytest.mark.parametrize(
    ("spacing", "radius", "ratios", "bound"),
    [
        ((1.0, 1.0, 1.0), (6, 14), [(0.5, 2)] * 3, 0.92),
        ((1.0, 1.0, 5.0), (12, 18), [(0.5, 2), (0.5, 2), (0.2, 1)], 0.95),
        ((1.0, 1.0, 1.0), (12, 18), [(1, 1), (1, 1), (2, 5)], 0.90),
    ],
    ids=["up to twice", "coarse axis made fine", "fine axis made coarse"],
)
def test_a_label_that_goes_in_and_out_keeps_its_dice(
    spacing: tuple[float, ...], radius: tuple[float, float], ratios: list[tuple[float, float]], bound: float
) -> None:
    generator = np.random.default_rng(0)
    scores = []
    for _ in range(25):
        sides = [40, 42, 44 if spacing[2] == 1 else 12]
        shape = (sides[0], sides[1], sides[2])
        ball = sphere(shape, spacing, generator.uniform(*radius), generator.uniform(-1, 1, 3))
        target = [s * generator.uniform(*limits) for s, limits in zip(spacing, ratios)]
        scores.append(there_and_back(ball, new_shape(shape, spacing, target)))
    assert min(scores) >= bound
    assert np.mean(scores) < 1  # something was resampled
