"""Labelled crops deformed as registration lays their case onto others (Zhao et al. 2019, without the appearances).

Few labelled cases show few shapes. The displacements between a labelled case and the other ones, which need no
label, are how anatomy differs in this very data; a labelled case deformed by a part of one is a new case, whose
label is known. The part is drawn: 0 is the case itself, laid onto the other one's centre, 1 the other one's shape.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frugalseg.data.warp import THIN, Floats, Sides, Spacing, around, column, displaced, sample, within

Read = Callable[[Sides, Sides], NDArray[Any]]
"""Reads a box, given its first voxel and its sides, which lies inside the array (lead, x, y, z)."""


@dataclass(frozen=True)
class Deformation:
    """How a case is laid onto another one, whose grid has this shape and spacing: its thinned displacement."""

    field: Path
    shape: Sides
    spacing: Spacing


@dataclass(frozen=True)
class Deformed:
    """Where the voxels of a deformed crop lie: `places` (3, x, y, z) in the case's voxels.

    `inside` (x, y, z): in both images, the case's and the one that it was laid onto. `start` and `sides` are the
    box of the case's voxels that looking them up takes.
    """

    places: Floats
    inside: NDArray[np.bool_]
    start: Sides
    sides: Sides

    def look_up(self, box: Floats) -> Floats:
        """Return the crop (C, x, y, z) of a case, given the box of it."""
        return sample(box, self.places - column(self.start))


def deformed(
    field: tuple[Sides, Read],
    deformation: Deformation,
    shape: Sides,
    spacing: Spacing,
    centre: NDArray[np.float64],
    matrix: NDArray[np.float64] | None,
    crop: Sides,
    part: float,
) -> Deformed:
    """Return where a crop's voxels lie in a case that is deformed.

    Args:
        field: Sides of the thinned displacement (3, x, y, z), and what reads a box of it.
        deformation: What it belongs to.
        shape: The case's sides in voxels.
        spacing: Of the case, in mm.
        centre: Of the crop, in the case's voxels, before anything is deformed.
        matrix: Takes a step in voxels inside the crop to a step in the case's voxels; None: the same.
        crop: Sides of the crop.
        part: Share of the displacement that is taken.
    """
    axes = [np.arange(side, dtype=np.float32) - (side - 1) / 2 for side in crop]
    steps = np.stack(np.meshgrid(*axes, indexing="ij"))
    if matrix is not None:
        steps = np.einsum("ab,bxyz->axyz", matrix.astype(np.float32), steps)
    there, here = (np.array(size) for size in (deformation.spacing, spacing))
    steps = steps * column(here / there)  # the crop keeps the case's own spacing
    middle, own_middle = ((np.array(sides) - 1) / 2 for sides in (deformation.shape, shape))
    voxels = np.asarray(steps + column((centre - own_middle) * here / there + middle), np.float32)
    sides, read = field
    thin = np.asarray(voxels / THIN, np.float32)
    first, box = around(thin, sides)
    whole = sample(read(first, box).astype(np.float32), thin - column(first))
    centred = (voxels - column(middle)) * column(there / here) + column(own_middle)
    laid = displaced(voxels, whole, spacing, deformation.spacing)
    places = np.asarray(centred + np.float32(part) * (laid - centred), np.float32)
    inside = within(voxels, deformation.shape) & within(places, shape)
    return Deformed(places, inside, *around(places, shape))
