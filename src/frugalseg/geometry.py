"""Where a voxel lies in the patient: the only place that knows millimetres and orientation.

A `Grid` is a shape and an affine (voxel index to millimetres, RAS+ world, as nibabel gives it). The canonical
grid of an image is the same voxels with axes permuted and flipped so that they run as nearly as possible to the
right, to the front and upwards; nothing is resampled on the way there or back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Affine = NDArray[np.float64]
Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]

TOLERANCE_MM = 1e-3
"""How far apart voxels of one place may be told to lie; less for voxels below 50 micrometres (`tolerance_mm`)."""
_CODES = (("L", "R"), ("P", "A"), ("I", "S"))


@dataclass(frozen=True)
class Grid:
    """The voxels of a 3D image: `shape` in voxels, `affine` (4, 4) from voxel index to millimetres in RAS+."""

    shape: tuple[int, int, int]
    affine: Affine

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise ValueError(f"a grid needs three positive sides, not {self.shape}")
        affine = np.asarray(self.affine, dtype=np.float64)
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise ValueError("the affine is not a 4 x 4 matrix of finite numbers")
        sides = np.linalg.norm(affine[:3, :3], axis=0)
        if sides.min() <= 0 or abs(np.linalg.det(affine[:3, :3] / sides)) < 1e-6:  # also of a microscope's voxels
            raise ValueError("the affine is singular: voxels would have no volume")
        object.__setattr__(self, "affine", affine)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Length of a voxel along each axis, in millimetres."""
        lengths = np.sqrt((self.affine[:3, :3] ** 2).sum(axis=0))
        return float(lengths[0]), float(lengths[1]), float(lengths[2])

    @property
    def skew(self) -> float:
        """How far the axes are from right angles, in degrees: 0 but for a sheared image."""
        directions = self.affine[:3, :3] / np.array(self.spacing)
        cosines = np.abs(directions.T @ directions)[[0, 0, 1], [1, 2, 2]]
        return float(np.degrees(np.arcsin(min(1.0, cosines.max()))))

    @property
    def voxel_volume(self) -> float:
        """Volume of a voxel in cubic millimetres."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    @property
    def diagonal(self) -> float:
        """Length of the image's diagonal in millimetres: the distance charged for a missed structure."""
        return float(np.linalg.norm(np.array(self.shape) * np.array(self.spacing)))

    @property
    def orientation(self) -> str:
        """Three letters: where each axis runs to, e.g. 'RAS' or 'LAS'."""
        return "".join(_CODES[world][sign > 0] for world, sign in self.axes)

    @property
    def axes(self) -> tuple[tuple[int, int], ...]:
        """For each voxel axis the world axis (0, 1, 2) that it follows, and the sign (1, -1)."""
        directions = self.affine[:3, :3] / np.array(self.spacing)
        strength = np.abs(directions)
        found: dict[int, tuple[int, int]] = {}
        for _ in range(3):  # the strongest alignment first, so that oblique images get a permutation too
            world, axis = np.unravel_index(strength.argmax(), strength.shape)
            found[int(axis)] = (int(world), 1 if directions[world, axis] > 0 else -1)
            strength[world, :] = -1.0
            strength[:, axis] = -1.0
        return tuple(found[axis] for axis in range(3))

    def difference(self, other: Grid) -> float:
        """Return the largest distance in millimetres between equal voxels of two grids of the same shape."""
        corners = np.array([[x, y, z, 1] for x in (0, 1) for y in (0, 1) for z in (0, 1)], dtype=np.float64)
        corners[:, :3] *= np.array(self.shape) - 1
        apart = corners @ (self.affine - other.affine).T
        return float(np.linalg.norm(apart[:, :3], axis=1).max())

    def to_json(self) -> dict[str, Any]:
        """Return shape and affine as plain lists."""
        return {"shape": list(self.shape), "affine": self.affine.tolist()}

    @staticmethod
    def from_json(value: dict[str, Any]) -> Grid:
        """Read what `to_json` wrote."""
        x, y, z = (int(side) for side in value["shape"])
        return Grid((x, y, z), np.array(value["affine"], dtype=np.float64))


@dataclass(frozen=True)
class Reorder:
    """Axes permuted, then flipped: takes the last three axes of an array to the canonical orientation and back."""

    order: tuple[int, int, int]
    flips: tuple[int, ...]

    @staticmethod
    def to_canonical(grid: Grid) -> Reorder:
        """Return the reordering that makes the axes of `grid` run right, front, up (RAS+)."""
        position = {world: axis for axis, (world, _) in enumerate(grid.axes)}
        order = (position[0], position[1], position[2])
        return Reorder(order, tuple(new for new, old in enumerate(order) if grid.axes[old][1] < 0))

    def apply(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return a view of `array` (..., x, y, z) in the canonical orientation."""
        lead = array.ndim - 3
        moved = array.transpose(*range(lead), *(lead + axis for axis in self.order))
        return np.flip(moved, tuple(lead + axis for axis in self.flips))

    def undo(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return a view of a canonical `array` (..., x, y, z) in the original orientation."""
        lead = array.ndim - 3
        unflipped = np.flip(array, tuple(lead + axis for axis in self.flips))
        return unflipped.transpose(*range(lead), *(lead + int(axis) for axis in np.argsort(self.order)))

    def apply_grid(self, grid: Grid) -> Grid:
        """Return the grid of the reordered image: every voxel keeps its place in the patient."""
        shape = tuple(grid.shape[axis] for axis in self.order)
        change = np.zeros((4, 4))
        change[3, 3] = 1.0
        for new, old in enumerate(self.order):
            flipped = new in self.flips
            change[old, new] = -1.0 if flipped else 1.0
            change[old, 3] = grid.shape[old] - 1 if flipped else 0.0
        return Grid((shape[0], shape[1], shape[2]), grid.affine @ change)


def crop_grid(grid: Grid, box: Box) -> Grid:
    """Return the grid of the voxels inside `box` ((start, stop) per axis)."""
    affine = grid.affine.copy()
    affine[:3, 3] = grid.affine[:3, :3] @ np.array([low for low, _ in box]) + grid.affine[:3, 3]
    x, y, z = (high - low for low, high in box)
    return Grid((x, y, z), affine)


def resample_grid(grid: Grid, shape: tuple[int, int, int]) -> Grid:
    """Return the grid of other voxels over the same extent: edges stay where they are, centres move."""
    ratio = np.array(grid.shape) / np.array(shape)
    affine = grid.affine.copy()
    affine[:3, :3] = grid.affine[:3, :3] * ratio
    # The first centre lies half a new voxel from the edge instead of half an old one.
    affine[:3, 3] = grid.affine[:3, 3] + grid.affine[:3, :3] @ ((ratio - 1) / 2)
    return Grid(shape, affine)


def nonzero_box(image: NDArray[Any]) -> Box:
    """Return the smallest box that holds every non-zero voxel of any channel of `image` (c, x, y, z).

    An image of zeros gets its whole extent: there is nothing to crop to.
    """
    mask = (image != 0).any(axis=0)
    if not mask.any():
        x, y, z = mask.shape
        return (0, x), (0, y), (0, z)
    ranges = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        places = np.flatnonzero(mask.any(axis=others))
        ranges.append((int(places[0]), int(places[-1]) + 1))
    return ranges[0], ranges[1], ranges[2]


def tolerance_mm(grid: Grid) -> float:
    """Return how far apart two grids may lie and be one: a micrometre, and no more than a fiftieth of a voxel."""
    return min(TOLERANCE_MM, min(grid.spacing) / 50)
