"""Displacement fields: a volume looked up at displaced places.

A displacement (3, x, y, z) in mm belongs to a grid, the fixed image's, and takes each of its voxels to a place in
another image, the moving one; both grids begin at the same corner. Voxel v of the fixed image then shows what the
moving one has at v * spacing + d(v).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Spacing = tuple[float, float, float]
Sides = tuple[int, int, int]
Box = tuple[slice, slice, slice]
"""A part of a grid, each slice with a start and a stop inside it."""
ROUNDING = 1e-3  # voxels by which a place at the very edge may be off: displacements are kept in half precision
THIN = 2  # of so many voxels along each axis one keeps its displacement, which is smooth


def warp(volume: Floats, displacement: Floats, volume_spacing: Spacing, spacing: Spacing) -> Floats:
    """Return what a volume (C, x, y, z) shows at the displaced voxels, linearly; beyond its edge, its edge.

    Args:
        volume: On the moving image's grid.
        displacement: (3, x, y, z) in mm.
        volume_spacing: Of the moving image's grid, in mm.
        spacing: Of the displacement's grid, in mm.
    """
    return sample(volume, places_of(displacement, volume_spacing, spacing))


def places_of(displacement: Floats, volume_spacing: Spacing, spacing: Spacing, first: Sides = (0, 0, 0)) -> Floats:
    """Return the places (3, x, y, z), in voxels of the moving image, that a displacement takes its voxels to.

    `first`: the voxel of the fixed image's grid that the displacement, of a box of it, begins with.
    """
    ends = zip(first, displacement.shape[1:], strict=True)
    voxels = np.stack(
        np.meshgrid(*(np.arange(low, low + side, dtype=np.float32) for low, side in ends), indexing="ij")
    )
    return displaced(voxels, displacement, volume_spacing, spacing)


def within(places: Floats, sides: tuple[int, ...]) -> NDArray[np.bool_]:
    """Whether places (3, ...) lie in voxels of an image, whose first one reaches from -0.5 to 0.5."""
    last = np.array(sides, np.float32).reshape(3, *(1,) * (places.ndim - 1)) - 0.5
    return np.asarray(((places >= -0.5 - ROUNDING) & (places <= last + ROUNDING)).all(axis=0))


def displaced(voxels: Floats, displacement: Floats, volume_spacing: Spacing, spacing: Spacing) -> Floats:
    """Return the places (3, ...), in voxels of the moving image, of voxels (3, ...) with these displacements."""
    ones = (1,) * (voxels.ndim - 1)
    here, there = (np.array(size, np.float32).reshape(3, *ones) for size in (spacing, volume_spacing))
    return np.asarray((voxels * here + displacement) / there)


def restored(thin: NDArray[np.floating[Any]], box: Box) -> Floats:
    """Return a box of a displacement (3, x, y, z) of which every `THIN`th voxel is kept, linear between them."""
    last = [side - 1 for side in thin.shape[1:]]
    first = [part.start // THIN for part in box]
    ends = [min(-(-(part.stop - 1) // THIN), end) for part, end in zip(box, last, strict=True)]
    parts = [
        np.arange(part.start, part.stop, dtype=np.float32) / THIN - low
        for part, low in zip(box, first, strict=True)
    ]
    near = thin[:, *(slice(low, high + 1) for low, high in zip(first, ends, strict=True))]
    return sample(near.astype(np.float32), np.stack(np.meshgrid(*parts, indexing="ij")))


def around(places: Floats, sides: tuple[int, ...]) -> tuple[Sides, Sides]:
    """Return first voxel and sides of the box in an array of these sides that holds the places' neighbours."""
    flat = places.reshape(3, -1)
    last = np.array(sides) - 1
    low = np.clip(np.floor(flat.min(axis=1)), 0, last).astype(int)
    high = np.clip(np.ceil(flat.max(axis=1)), 0, last).astype(int)
    first, box = low.tolist(), (high - low + 1).tolist()
    return (first[0], first[1], first[2]), (box[0], box[1], box[2])


def box_of(first: Sides, sides: Sides) -> Box:
    """Return the box that begins with this voxel and has these sides."""
    x, y, z = (slice(low, low + side) for low, side in zip(first, sides, strict=True))
    return x, y, z


def corner(box: Box) -> Sides:
    """Return a box's first voxel."""
    return box[0].start, box[1].start, box[2].start


def column(values: Any) -> Floats:
    """Return three numbers as (3, 1, 1, 1), one for each axis of places."""
    return np.asarray(values, np.float32).reshape(3, 1, 1, 1)


def sample(volume: Floats, places: Floats) -> Floats:
    """Return a volume (C, x, y, z) at places (3, ...) in voxels, linearly; beyond its edge, its edge."""
    import torch  # here: who reads a prepared case imports this file, and need not wait for PyTorch
    from torch.nn import functional

    # From voxel centres to grid_sample's [-1, 1], which runs from edge to edge; it wants (z, y, x).
    sizes = np.array(volume.shape[1:], np.float32)[:, None, None, None]
    grid = torch.from_numpy(((2 * places + 1) / sizes - 1).transpose(1, 2, 3, 0)[..., ::-1].copy())[None]
    source = torch.from_numpy(np.ascontiguousarray(volume, np.float32))[None]
    found = functional.grid_sample(source, grid, "bilinear", "border", align_corners=False)
    return np.asarray(found[0].numpy())
