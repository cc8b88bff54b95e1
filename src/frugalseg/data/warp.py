"""Displacement fields: a volume looked up at displaced places.

A displacement (3, x, y, z) in mm belongs to a grid, the fixed image's, and takes each of its voxels to a place in
another image, the moving one; both grids begin at the same corner. Voxel v of the fixed image then shows what the
moving one has at v * spacing + d(v).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

Floats = NDArray[np.float32]
Spacing = tuple[float, float, float]
THIN = 2  # of so many voxels along each axis one keeps its displacement


def warp(volume: Floats, displacement: Floats, volume_spacing: Spacing, spacing: Spacing) -> Floats:
    """Return what a volume (C, x, y, z) shows at the displaced voxels, linearly; beyond its edge, its edge.

    Args:
        volume: On the moving image's grid.
        displacement: (3, x, y, z) in mm.
        volume_spacing: Of the moving image's grid, in mm.
        spacing: Of the displacement's grid, in mm.
    """
    return sample(volume, places_of(displacement, volume_spacing, spacing))


def places_of(displacement: Floats, volume_spacing: Spacing, spacing: Spacing) -> Floats:
    """Return the places (3, x, y, z), in voxels of the moving image, that a displacement takes its voxels to."""
    sides = displacement.shape[1:]
    voxels = np.stack(np.meshgrid(*(np.arange(side, dtype=np.float32) for side in sides), indexing="ij"))
    return displaced(voxels, displacement, volume_spacing, spacing)


def within(places: Floats, sides: tuple[int, ...]) -> NDArray[np.bool_]:
    """Whether places (3, ...) lie in voxels of an image, whose first one reaches from -0.5 to 0.5."""
    last = np.array(sides, np.float32).reshape(3, *(1,) * (places.ndim - 1)) - 0.5
    return np.asarray(((places >= -0.5) & (places <= last)).all(axis=0))


def displaced(voxels: Floats, displacement: Floats, volume_spacing: Spacing, spacing: Spacing) -> Floats:
    """Return the places (3, ...), in voxels of the moving image, of voxels (3, ...) with these displacements."""
    ones = (1,) * (voxels.ndim - 1)
    here, there = (np.array(size, np.float32).reshape(3, *ones) for size in (spacing, volume_spacing))
    return np.asarray((voxels * here + displacement) / there)


def thinned(displacement: Floats) -> NDArray[np.float16]:
    """Return every second voxel of a displacement, in half precision: it is smooth, and 16 times smaller so."""
    return displacement[:, ::THIN, ::THIN, ::THIN].astype(np.float16)


def restored(thin: NDArray[np.float16], sides: tuple[int, int, int]) -> Floats:
    """Return the displacement (3, *sides) that `thinned` was made of, linear between its voxels."""
    parts = [np.arange(side, dtype=np.float32) / THIN for side in sides]
    return sample(thin.astype(np.float32), np.stack(np.meshgrid(*parts, indexing="ij")))


def sample(volume: Floats, places: Floats) -> Floats:
    """Return a volume (C, x, y, z) at places (3, ...) in voxels, linearly; beyond its edge, its edge."""
    # From voxel centres to grid_sample's [-1, 1], which runs from edge to edge; it wants (z, y, x).
    sizes = np.array(volume.shape[1:], np.float32)[:, None, None, None]
    grid = torch.from_numpy(((2 * places + 1) / sizes - 1).transpose(1, 2, 3, 0)[..., ::-1].copy())[None]
    source = torch.from_numpy(np.ascontiguousarray(volume, np.float32))[None]
    found = functional.grid_sample(source, grid, "bilinear", "border", align_corners=False)
    return np.asarray(found[0].numpy())
