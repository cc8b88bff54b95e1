"""The way from a file's voxels to the prepared ones and back, for any orientation, crop and spacing."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from frugalseg.data.placement import Placement
from frugalseg.data.preprocess import Preparation, placed, preprocess
from frugalseg.geometry import Grid, Reorder, resample_grid
from frugalseg.inference.restore import placed_blocks

ORIENTATIONS = [
    (order, signs) for order in itertools.permutations(range(3)) for signs in itertools.product((1, -1), repeat=3)
]
TRIPLES = st.tuples(*[st.floats(0.4, 5)] * 3)


def make_grid(shape: tuple[int, int, int], orientation: Any, spacing: tuple[float, ...], tilt: float) -> Grid:
    order, signs = orientation
    affine = np.eye(4)
    affine[:3, :3] = np.eye(3)[:, list(order)] * signs * np.array(spacing)
    turn = np.eye(3)
    turn[:2, :2] = [[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]]
    affine[:3, :3] = turn @ affine[:3, :3]
    affine[:3, 3] = (7, -11, 3)
    return Grid(shape, affine)


def world(grid: Grid, voxels: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(voxels @ grid.affine[:3, :3].T + grid.affine[:3, 3])


def corners(grid: Grid) -> NDArray[np.float64]:
    return world(grid, np.array(list(itertools.product(*((-0.5, side - 0.5) for side in grid.shape)))))


def test_a_grid_of_other_voxels_by_hand() -> None:
    grid = resample_grid(Grid((4, 6, 1), np.diag([1.0, 2.0, 5.0, 1.0])), (2, 12, 1))
    assert grid.spacing == pytest.approx((2, 1, 5))
    assert grid.affine[:3, 3] == pytest.approx((0.5, -0.5, 0))


@given(
    shape=st.tuples(*[st.integers(4, 14)] * 3),
    orientation=st.sampled_from(ORIENTATIONS),
    old=TRIPLES,
    ratio=st.tuples(*[st.floats(0.45, 3)] * 3),
    tilt=st.floats(-0.2, 0.2),
)
@settings(max_examples=60, deadline=None)
def test_every_point_of_a_ramp_stays_in_its_place(
    shape: tuple[int, int, int],
    orientation: Any,
    old: tuple[float, float, float],
    ratio: tuple[float, float, float],
    tilt: float,
) -> None:
    grid = make_grid(shape, orientation, old, tilt)
    reorder = Reorder.to_canonical(grid)
    whole = reorder.apply_grid(grid)
    a, b, c = (factor * side for factor, side in zip(ratio, whole.spacing))
    new = (a, b, c)
    box = tuple((1, side) for side in whole.shape)
    placement = placed(Placement(grid, reorder, (box[0], box[1], box[2])), Preparation(spacing=new))
    cut, prepared = placement.cut_grid, placement.prepared_grid
    # The same extent, and voxels as near to the target as whole numbers of them allow.
    np.testing.assert_allclose(corners(prepared), corners(cut), atol=1e-8)
    for side, other, target, before in zip(prepared.shape, cut.shape, new, cut.spacing):
        assert side == max(1, round(other * before / target))
    assert Placement.from_json(placement.to_json()).to_json() == placement.to_json()
    # Each world coordinate is an image that is a ramp: resampled it must hold the world coordinate of its voxels.
    files = world(grid, np.indices(shape).reshape(3, -1).T.astype(float)).T.reshape(3, *shape)
    found = placement.resample_image(np.ascontiguousarray(placement.cut(files), np.float32))
    wanted = world(prepared, np.indices(prepared.shape).reshape(3, -1).T.astype(float)).T.reshape(
        3, *prepared.shape
    )
    # Beyond its ends an axis goes on as it ended, so that the ends are not the ramp's, but alike at both ends: over
    # all voxels the errors cancel out, and half a voxel of shift would show.
    voxel = max(max(cut.spacing), max(prepared.spacing))
    centre = found.mean(axis=(1, 2, 3)) - wanted.mean(axis=(1, 2, 3))
    np.testing.assert_allclose(centre, 0, atol=1e-3 * voxel)
    # Inside, the ramp is the ramp, up to what a spline feels of the ends.
    far = [np.abs((np.arange(m) + 0.5) * n / m - n / 2) < 1 for n, m in zip(cut.shape, prepared.shape)]
    inside = far[0][:, None, None] & far[1][None, :, None] & far[2][None, None, :]
    if min(cut.shape) >= 10:
        assert np.abs(found - wanted)[:, inside].max(initial=0) < 0.02 * voxel


def there_and_back(
    orientation: Any, new: tuple[float, float, float], axis: int, seed: int
) -> tuple[float, NDArray[np.float64]]:
    """Resample a ball of 1 mm voxels to `new` and back in slabs; return its Dice and how far it moved, in mm."""
    shape = (24, 22, 26)
    grid = make_grid(shape, orientation, (1, 1, 1), 0)
    centre = np.random.default_rng(seed).uniform(10, 12, 3)
    distance = sum((places - c) ** 2 for places, c in zip(np.indices(shape), centre))
    mask = np.asarray(distance <= 64, np.uint8)
    image = mask[None].astype(np.float32) + 1
    placement = preprocess(grid, image, Preparation(spacing=new)).placement
    target = placement.resample_target(np.ascontiguousarray(placement.cut(mask[None])), 2)
    assert target.shape[1:] == placement.prepared_grid.shape
    probabilities = np.stack([target[0] == 0, target[0] == 1]).astype(np.float32)
    found = np.zeros(placement.cut_grid.shape, np.uint8)
    parts = torch.from_numpy(probabilities).split(5, dim=axis + 1)
    for rows, block in placed_blocks(placement if placement.shape else None, parts, axis):
        found[rows] = block.argmax(dim=0).numpy()
    back = placement.restore(found)
    moved = np.argwhere(back).mean(axis=0) - np.argwhere(mask).mean(axis=0)
    return 2 * (back & mask).sum() / (back.sum() + mask.sum()), moved


@given(orientation=st.sampled_from(ORIENTATIONS), new=TRIPLES, axis=st.integers(0, 2), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_a_ball_comes_back_to_where_it_was(
    orientation: Any, new: tuple[float, float, float], axis: int, seed: int
) -> None:
    dice, moved = there_and_back(orientation, (min(new[0], 2.0), min(new[1], 2.0), min(new[2], 2.0)), axis, seed)
    assert dice >= 0.85
    assert np.abs(moved).max() < 0.5  # one ball, whose border falls on ties; the largest of 100 moves by 0.47 mm


@pytest.mark.parametrize("spacing", [2.0, 1.9, 1.5])
def test_balls_do_not_move_in_the_mean(spacing: float) -> None:
    """A grid that was laid half a voxel, or a quarter, beside where it belongs would move them all."""
    triple = (spacing, spacing, spacing)
    moved = [there_and_back(ORIENTATIONS[0], triple, 0, seed)[1] for seed in range(40)]
    assert np.abs(np.mean(moved, axis=0)).max() < 0.15


def test_a_target_spacing_of_another_unit_is_refused() -> None:
    grid = Grid((10, 10, 10), np.eye(4))
    with pytest.raises(ValueError, match=r"from 1x1x1 to 0\.001x0\.001x0\.001 mm"):
        preprocess(grid, np.ones((1, 10, 10, 10), np.float32), Preparation(spacing=(0.001, 0.001, 0.001)))


def test_nothing_is_resampled_where_the_shape_stays() -> None:
    grid = Grid((10, 10, 10), np.eye(4))
    image = np.random.default_rng(0).normal(9, 1, (1, 10, 10, 10)).astype(np.float32)
    plain = preprocess(grid, image, Preparation())
    same = preprocess(grid, image, Preparation(spacing=(1.01, 0.99, 1)))
    assert same.placement.shape is None
    assert np.array_equal(plain.image, same.image)


def test_a_slice_may_have_any_thickness() -> None:
    grid = Grid((20, 20, 1), np.diag([1.0, 1.0, 0.01, 1.0]))
    image = np.random.default_rng(0).normal(9, 1, (1, 20, 20, 1)).astype(np.float32)
    prepared = preprocess(grid, image, Preparation(spacing=(2, 2, 5)))
    assert prepared.image.shape == (1, 10, 10, 1)
    # Cubic in the plane: the thickness of a single slice does not make the plane coarse.
    from frugalseg.data.resample import resample_image

    wanted = resample_image(plain_scores(image), (10, 10, 1))
    np.testing.assert_allclose(prepared.image, wanted, atol=1e-5)


def plain_scores(image: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray((image - image.mean()) / image.std(), np.float32)
