"""Preprocessing against numpy and by hand; where a voxel lies in the patient survives the way there and back."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from frugalseg.data.placement import Placement
from frugalseg.data.preprocess import Preparation, nonzero_moments, preprocess
from frugalseg.geometry import Grid

SETTINGS = Preparation()
ORIENTATIONS = [
    (order, signs) for order in itertools.permutations(range(3)) for signs in itertools.product((1, -1), repeat=3)
]
SPACING = (0.8, 1.5, 4.0)


def grid_of(
    shape: tuple[int, int, int], order: tuple[int, ...] = (0, 1, 2), signs: tuple[int, ...] = (1, 1, 1)
) -> Grid:
    affine = np.zeros((4, 4))
    for axis, (world, sign) in enumerate(zip(order, signs)):
        affine[world, axis] = sign * SPACING[axis]
    affine[:, 3] = (5, -60, 12.5, 1)
    return Grid(shape, affine)


def blob(shape: tuple[int, int, int], channels: int = 2, seed: int = 0) -> NDArray[np.float32]:
    """Zeros around an off-centre box of random numbers of both signs, with a few zeros in it."""
    generator = np.random.default_rng(seed)
    image = np.zeros((channels, *shape), np.float32)
    x, y, z = (slice(n // 4, max(n // 4 + 1, n - 1)) for n in shape)
    inside = image[:, x, y, z]
    inside[...] = generator.normal(20, 15, inside.shape)
    inside[generator.random(inside.shape) < 0.1] = 0
    inside[:, 0, 0, 0] = inside[:, -1, -1, -1] = -3
    return image


def test_z_scores_are_numpys_over_the_non_zero_voxels() -> None:
    image = blob((8, 9, 10))
    prepared = preprocess(grid_of((8, 9, 10)), image, SETTINGS)
    assert prepared.image.shape == (2, 5, 6, 7)
    assert prepared.image.dtype == np.float32
    assert prepared.image.flags.c_contiguous
    for channel, (found, background) in enumerate(zip(prepared.image, prepared.background, strict=True)):
        cut = image[channel, 2:7, 2:8, 2:9].astype(np.float64)
        known = cut[cut != 0]
        assert known.min() < 0 < known.max()
        np.testing.assert_allclose(found, (cut - known.mean()) / known.std(), atol=1e-5)
        assert abs(background - (0 - known.mean()) / known.std()) < 1e-9
        np.testing.assert_allclose(found[cut == 0], background, atol=1e-5)


def test_by_hand() -> None:
    image = np.array([1, 3, 0, 3, 1, 0], np.float32).reshape(1, 3, 2, 1)
    prepared = preprocess(grid_of((3, 2, 1)), image, SETTINGS)
    assert prepared.image.ravel().tolist() == [-1, 1, -2, 1, -1, -2]
    assert prepared.background == (-2.0,)


def test_constant_channels_are_centred_and_empty_ones_left_alone() -> None:
    image = np.zeros((3, 4, 4, 4), np.float32)
    image[0] = 5
    image[1, 1:3] = 0.1
    prepared = preprocess(grid_of((4, 4, 4)), image, SETTINGS)
    assert prepared.background == pytest.approx((-5.0, -0.1, 0.0))
    assert not prepared.image[0].any()
    assert np.unique(prepared.image[1]).tolist() == [-np.float32(0.1), 0]
    assert not prepared.image[2].any()
    assert nonzero_moments(np.zeros(4, np.float32)) == (0, 1)
    assert nonzero_moments(np.full(4, 7, np.float32)) == (7, 1)


def test_large_numbers_keep_their_digits() -> None:
    # In single precision the mean of these would be wrong in the third digit of the z-scores.
    values = (30000 + np.random.default_rng(0).normal(0, 20, (1, 20, 20, 20))).astype(np.float32)
    prepared = preprocess(grid_of((20, 20, 20)), values, SETTINGS)
    exact = values.astype(np.float64)
    np.testing.assert_allclose(prepared.image, (exact - exact.mean()) / exact.std(), atol=2e-4)


def test_an_image_of_zeros_keeps_its_extent() -> None:
    prepared = preprocess(grid_of((3, 4, 5)), np.zeros((1, 3, 4, 5), np.float32), SETTINGS)
    assert prepared.image.shape == (1, 3, 4, 5)
    assert prepared.placement.box == ((0, 3), (0, 4), (0, 5))


def test_the_border_stays_if_asked() -> None:
    image = blob((8, 9, 10))
    prepared = preprocess(grid_of((8, 9, 10)), image, Preparation(crop_nonzero=False))
    assert prepared.image.shape == image.shape
    assert np.allclose(prepared.image[:, 0, 0, 0], prepared.background)


@pytest.mark.parametrize("crop", [True, False])
def test_the_image_that_is_given_stays_as_it_is(crop: bool) -> None:
    # All voxels inside the box, canonical, contiguous: nothing but preprocess itself would make a copy.
    image = np.random.default_rng(0).normal(10, 1, (1, 4, 5, 6)).astype(np.float32)
    before = image.copy()
    prepared = preprocess(grid_of((4, 5, 6)), image, Preparation(crop_nonzero=crop))
    assert np.array_equal(image, before)
    assert not np.allclose(prepared.image, image)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_no_numbers_are_counted(value: float) -> None:
    image = blob((4, 4, 4))
    image[0, 1, 1, 1] = image[1, 2, 2, 2] = value
    with pytest.raises(ValueError, match="2 of 128 voxels"):
        preprocess(grid_of((4, 4, 4)), image, SETTINGS)


@given(
    orientation=st.sampled_from(ORIENTATIONS),
    shape=st.tuples(*[st.integers(1, 7)] * 3),
    seed=st.integers(0, 1000),
    crop=st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_any_orientation_there_and_back(
    orientation: tuple[tuple[int, ...], tuple[int, ...]], shape: tuple[int, int, int], seed: int, crop: bool
) -> None:
    grid = grid_of(shape, *orientation)
    image = blob(shape, 1, seed)
    placement = preprocess(grid, image, Preparation(crop_nonzero=crop)).placement
    assert np.array_equal(placement.restore(placement.cut(image)), image)
    # Every voxel by its number: outside the box the fill, inside the number itself, for any leading axes.
    numbers = np.arange(image.size, dtype=np.int32).reshape(shape)
    back = placement.restore(placement.cut(numbers), fill=-1)
    assert back.shape == shape
    assert back.dtype == numbers.dtype
    assert ((back == numbers) | ((back == -1) & (image[0] == 0))).all()
    assert (back >= 0).sum() == placement.cut(numbers).size
    stacked = np.stack([numbers, numbers + 1])[None]
    assert np.array_equal(placement.restore(placement.cut(stacked))[0, 0], np.where(back < 0, 0, back))


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS)
def test_the_prepared_grid_says_where_each_voxel_lies(order: tuple[int, ...], signs: tuple[int, ...]) -> None:
    shape = (4, 6, 5)
    grid = grid_of(shape, order, signs)
    placement = preprocess(grid, blob(shape, 1), SETTINGS).placement
    prepared = placement.prepared_grid
    assert prepared.orientation == "RAS"
    assert sorted(prepared.spacing) == pytest.approx(sorted(SPACING))
    assert prepared.spacing[order[2]] == pytest.approx(4.0)
    numbers = placement.cut(numbers_of(shape))
    assert numbers.shape == prepared.shape
    for place in ((0, 0, 0), (1, 0, 1), tuple(n - 1 for n in prepared.shape)):
        old = np.unravel_index(int(numbers[place]), shape)
        np.testing.assert_allclose(grid.affine @ [*old, 1], prepared.affine @ [*place, 1], atol=1e-9)
    read = Placement.from_json(json.loads(json.dumps(placement.to_json())))
    assert read.to_json() == placement.to_json()
    assert np.array_equal(read.cut(numbers_of(shape)), placement.cut(numbers_of(shape)))


def numbers_of(shape: tuple[int, int, int]) -> NDArray[np.int64]:
    return np.arange(np.prod(shape)).reshape(shape)


def test_an_image_unlike_all_training_images_is_brought_to_their_spacing() -> None:
    """Nothing was resampled in training; a finer scan would show the network anatomy twice as large."""
    known = Preparation(crop_nonzero=False, uniform=(1, 1, 2))
    image = np.random.default_rng(0).standard_normal((1, 12, 10, 8)).astype(np.float32)
    for spacing, shape in (
        ((1, 1, 2), None),
        ((1.009, 0.991, 2), None),  # within 1 %
        ((0.5, 0.5, 2), (6, 5, 8)),
        ((1, 1, 1), (12, 10, 4)),
        ((2, 1, 2), (24, 10, 8)),
    ):
        grid = Grid((12, 10, 8), np.diag([*map(float, spacing), 1.0]))
        placement = preprocess(grid, image, known).placement
        assert placement.shape == shape, spacing
        assert preprocess(grid, image, Preparation(crop_nonzero=False)).placement.shape is None
    slices = Grid((12, 10, 1), np.diag([1.0, 1.0, 7.0, 1.0]))
    assert preprocess(slices, image[..., :1], known).placement.shape is None  # no spacing across one slice
    fine = Grid((12, 10, 8), np.diag([0.5, 0.5, 2.0, 1.0]))
    assert known.key() == known.key(slices) == Preparation(crop_nonzero=False).key()
    assert known.key(fine) == Preparation(crop_nonzero=False, spacing=(1, 1, 2)).key()
    assert known.same_voxels(Preparation(crop_nonzero=False))  # of before it was noted
    assert not known.same_voxels(Preparation(uniform=(1, 1, 1)))
    assert known.same_voxels(Preparation(uniform=(1.0001, 1, 2)))  # two versions of a data set
    assert not known.same_voxels(Preparation(spacing=(1, 1, 2)))
