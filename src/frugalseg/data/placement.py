"""Where a prepared array lies in the file it came from: the one place of the way there and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frugalseg.data.resample import coarse_axes, resample_image, resample_target, stream_back
from frugalseg.geometry import Box, Grid, Reorder, crop_grid, resample_grid

Triple = tuple[int, int, int]


@dataclass(frozen=True)
class Placement:
    """From the file's `grid`: axes reordered, cut to `box`, and, if `shape` is given, resampled to so many voxels.

    The *cut grid* is what the first two give, the *prepared grid* what all of it gives; without resampling they are
    the same.
    """

    grid: Grid
    reorder: Reorder
    box: Box
    shape: Triple | None = None

    @property
    def cut_grid(self) -> Grid:
        """The grid of the file's own voxels in canonical orientation, cropped."""
        return crop_grid(self.reorder.apply_grid(self.grid), self.box)

    @property
    def prepared_grid(self) -> Grid:
        """The grid of the prepared array: over the extent of the cut grid, perhaps in other voxels."""
        return self.cut_grid if self.shape is None else resample_grid(self.cut_grid, self.shape)

    def cut(self, array: NDArray[Any]) -> NDArray[Any]:
        """Take an array (..., x, y, z) on the file's grid to the cut grid (a view)."""
        (x0, x1), (y0, y1), (z0, z1) = self.box
        return self.reorder.apply(array)[..., x0:x1, y0:y1, z0:z1]

    def restore(self, array: NDArray[Any], fill: float = 0) -> NDArray[Any]:
        """Take an array (..., x, y, z) on the cut grid back to the file's grid, `fill` outside the box."""
        canonical = self.reorder.apply_grid(self.grid)
        whole = np.full((*array.shape[:-3], *canonical.shape), fill, array.dtype)
        (x0, x1), (y0, y1), (z0, z1) = self.box
        whole[..., x0:x1, y0:y1, z0:z1] = array
        return np.ascontiguousarray(self.reorder.undo(whole))

    def resample_image(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take an image (channel, x, y, z) from the cut grid to the prepared one."""
        if self.shape is None:
            return image
        coarse = coarse_axes(_of_solid_axes(self.cut_grid), _of_solid_axes(self.prepared_grid))
        return resample_image(image, self.shape, coarse)

    def resample_target(self, target: NDArray[np.uint8], classes: int) -> NDArray[np.uint8]:
        """Take class indices (R, x, y, z) from the cut grid to the prepared one."""
        return target if self.shape is None else resample_target(target, self.shape, classes)

    def stream_back(self, blocks: Iterable[NDArray[np.float32]], axis: int) -> Iterator[NDArray[np.float32]]:
        """Take probabilities (outputs, x, y, z) that come in blocks along an axis to the cut grid, in blocks."""
        if self.shape is None:
            return iter(blocks)
        return stream_back(blocks, axis, self.shape, self.cut_grid.shape)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        value = {
            "grid": self.grid.to_json(),
            "order": list(self.reorder.order),
            "flips": list(self.reorder.flips),
            "box": [list(side) for side in self.box],
        }
        return value if self.shape is None else {**value, "shape": list(self.shape)}

    @staticmethod
    def from_json(value: dict[str, Any]) -> Placement:
        """Read what `to_json` wrote."""
        a, b, c = (int(axis) for axis in value["order"])
        x, y, z = ((int(low), int(high)) for low, high in value["box"])
        reorder = Reorder((a, b, c), tuple(int(axis) for axis in value["flips"]))
        shape = None
        if "shape" in value:
            i, j, k = (int(side) for side in value["shape"])
            shape = (i, j, k)
        return Placement(Grid.from_json(value["grid"]), reorder, (x, y, z), shape)


def _of_solid_axes(grid: Grid) -> tuple[float, ...]:
    """Return the spacing, with that of an axis of one voxel (which has no neighbours) replaced by the finest."""
    finest = min((s for s, n in zip(grid.spacing, grid.shape) if n > 1), default=min(grid.spacing))
    return tuple(s if n > 1 else finest for s, n in zip(grid.spacing, grid.shape))
