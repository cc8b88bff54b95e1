"""From an image as it was read to what the network sees, and the way back.

Canonical orientation, crop to the box of non-zero voxels, z-score per channel over its non-zero voxels (applied
to all voxels, zeros included: Iwasawa et al. 2020 and their published preprocessing).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from frugalseg.geometry import Box, Grid, Reorder, crop_grid, nonzero_box
from frugalseg.settings import Settings


class PreprocessSettings(Settings):
    """What `prepare` does to an image; part of the key of every stored case."""

    crop_nonzero: bool = True
    """Cut away the border in which every channel is zero."""
    normalise: Literal["zscore"] = "zscore"
    """Mean 0 and standard deviation 1 over each channel's non-zero voxels."""


@dataclass(frozen=True)
class Placement:
    """Where a prepared array lies in the file it came from."""

    grid: Grid
    reorder: Reorder
    box: Box

    @property
    def prepared_grid(self) -> Grid:
        """The grid of the prepared array (canonical orientation, cropped)."""
        return crop_grid(self.reorder.apply_grid(self.grid), self.box)

    def cut(self, array: NDArray[Any]) -> NDArray[Any]:
        """Take an array (..., x, y, z) on the file's grid to the prepared grid (a view)."""
        (x0, x1), (y0, y1), (z0, z1) = self.box
        return self.reorder.apply(array)[..., x0:x1, y0:y1, z0:z1]

    def restore(self, array: NDArray[Any], fill: float = 0) -> NDArray[Any]:
        """Take an array (..., x, y, z) on the prepared grid back to the file's grid, `fill` outside the box."""
        canonical = self.reorder.apply_grid(self.grid)
        whole = np.full((*array.shape[:-3], *canonical.shape), fill, array.dtype)
        (x0, x1), (y0, y1), (z0, z1) = self.box
        whole[..., x0:x1, y0:y1, z0:z1] = array
        return np.ascontiguousarray(self.reorder.undo(whole))

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "grid": self.grid.to_json(),
            "order": list(self.reorder.order),
            "flips": list(self.reorder.flips),
            "box": [list(side) for side in self.box],
        }

    @staticmethod
    def from_json(value: dict[str, Any]) -> Placement:
        """Read what `to_json` wrote."""
        a, b, c = (int(axis) for axis in value["order"])
        x, y, z = ((int(low), int(high)) for low, high in value["box"])
        reorder = Reorder((a, b, c), tuple(int(axis) for axis in value["flips"]))
        return Placement(Grid.from_json(value["grid"]), reorder, (x, y, z))


@dataclass(frozen=True)
class Prepared:
    """A prepared image (channel, x, y, z) in float32, and `background`: what a raw zero became per channel."""

    image: NDArray[np.float32]
    background: tuple[float, ...]
    placement: Placement


def preprocess(grid: Grid, image: NDArray[np.float32], settings: PreprocessSettings) -> Prepared:
    """Prepare an image (channel, x, y, z) that was read on `grid`; the image itself is left as it is.

    Raises:
        ValueError: A voxel is NaN or infinite.
    """
    if not np.isfinite(image).all():
        count = int((~np.isfinite(image)).sum())
        raise ValueError(f"{count} of {image.size} voxels are NaN or infinite")
    reorder = Reorder.to_canonical(grid)
    canonical = reorder.apply(image)
    x, y, z = canonical.shape[1:]
    box: Box = nonzero_box(canonical) if settings.crop_nonzero else ((0, x), (0, y), (0, z))
    placement = Placement(grid, reorder, box)
    cut = np.array(placement.cut(image), order="C")  # always a copy: it is normalised in place
    background = []
    for channel in cut:
        mean, deviation = nonzero_moments(channel)
        channel -= np.float32(mean)
        channel /= np.float32(deviation)
        background.append(-mean / deviation)
    return Prepared(cut, tuple(background), placement)


def nonzero_moments(channel: NDArray[np.float32]) -> tuple[float, float]:
    """Return mean and population standard deviation of the non-zero voxels, in float64.

    The deviation of a constant channel is given as 1; a channel of zeros has (0, 1).
    """
    values = channel[channel != 0].astype(np.float64)
    if values.size == 0:
        return 0.0, 1.0
    deviation = float(values.std())
    return float(values.mean()), deviation if deviation > 0 else 1.0
