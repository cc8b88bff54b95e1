"""Orientation and millimetres, against nibabel and by hand."""

from __future__ import annotations

import itertools

import nibabel as nib
import numpy as np
import pytest

from frugalseg.geometry import Grid, Reorder, crop_grid, nonzero_box, tolerance_mm

ORIENTATIONS = [
    (order, signs) for order in itertools.permutations(range(3)) for signs in itertools.product((1, -1), repeat=3)
]


def affine_of(order: tuple[int, ...], signs: tuple[int, ...], oblique: bool = False) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, (world, sign) in enumerate(zip(order, signs)):
        affine[world, axis] = sign * (0.5 + axis)
    if oblique:
        turn = np.eye(3)
        turn[:2, :2] = [[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]]
        affine[:3, :3] = turn @ affine[:3, :3]
    affine[:3, 3] = [3, -7, 11]
    return affine


@pytest.mark.parametrize("oblique", [False, True])
def test_canonical_orientation_is_nibabels_and_comes_back(oblique: bool) -> None:
    for order, signs in ORIENTATIONS:
        array = np.arange(4 * 5 * 6).reshape(4, 5, 6).astype(np.int16)
        grid = Grid((4, 5, 6), affine_of(order, signs, oblique))
        reorder = Reorder.to_canonical(grid)
        wanted = nib.as_closest_canonical(nib.Nifti1Image(array, grid.affine))
        assert np.array_equal(reorder.apply(array), np.asarray(wanted.dataobj))
        assert np.allclose(reorder.apply_grid(grid).affine, wanted.affine)
        assert reorder.apply_grid(grid).orientation == "RAS"
        assert np.array_equal(reorder.undo(reorder.apply(array)), array)
        channels = np.stack([array, -array])
        assert np.array_equal(reorder.undo(reorder.apply(channels)), channels)


def test_by_hand() -> None:
    grid = Grid((4, 5, 6), np.diag([-2.0, 3.0, 4.0, 1.0]))
    assert grid.spacing == (2.0, 3.0, 4.0)
    assert grid.orientation == "LAS"
    assert abs(grid.voxel_volume - 24) < 1e-9
    assert abs(grid.diagonal - np.sqrt(8**2 + 15**2 + 24**2)) < 1e-9
    moved = grid.affine.copy()
    moved[1, 3] += 5
    assert abs(grid.difference(Grid(grid.shape, moved)) - 5) < 1e-9
    scaled = Grid(grid.shape, np.diag([-2.0, 3.0, 4.1, 1.0]))
    assert abs(grid.difference(scaled) - 0.5) < 1e-9
    cut = crop_grid(grid, ((1, 3), (0, 5), (2, 6)))
    assert cut.shape == (2, 5, 4)
    assert np.allclose(cut.affine @ [0, 0, 0, 1], grid.affine @ [1, 0, 2, 1])


@pytest.mark.parametrize("bad", [np.zeros((4, 4)), np.full((4, 4), np.nan), np.diag([1.0, 1.0, 0.0, 1.0])])
def test_unusable_affines(bad: np.ndarray) -> None:
    with pytest.raises(ValueError):
        Grid((2, 2, 2), bad)


def test_nonzero_box() -> None:
    image = np.zeros((2, 5, 6, 7))
    assert nonzero_box(image) == ((0, 5), (0, 6), (0, 7))
    image[0, 1, 2, 3] = 1
    image[1, 3, 2, 6] = -1
    assert nonzero_box(image) == ((1, 4), (2, 3), (3, 7))


def test_a_microscopes_voxels_are_no_singular_grid_and_are_held_to_less() -> None:
    """0.06 x 0.06 x 0.2 micrometres: a volume of 7e-13 mm3; four of 0.2 micrometres are less than 0.001 mm."""
    fine = np.diag([6e-5, 6e-5, 2e-4, 1.0])
    grid = Grid((40, 40, 10), fine)
    assert grid.voxel_volume == pytest.approx(7.2e-13)
    moved = fine.copy()
    moved[2, 3] = 4 * 2e-4
    assert grid.difference(Grid((40, 40, 10), moved)) < 1e-3
    assert grid.difference(Grid((40, 40, 10), moved)) > tolerance_mm(grid)
    assert tolerance_mm(Grid((4, 4, 4), np.diag([0.05, 1, 1, 1]))) == pytest.approx(1e-3)
    flat = np.eye(4)
    flat[:3, 2] = flat[:3, 0] + 1e-8
    for singular in (flat, np.diag([1.0, 0.0, 1.0, 1.0])):
        with pytest.raises(ValueError, match="singular"):
            Grid((4, 4, 4), singular)
