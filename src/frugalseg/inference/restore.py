"""From a network's outputs, slab by slab, to the voxels of the file that was predicted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from frugalseg.data.placement import Placement

Place = tuple[slice, slice, slice]


def placed_blocks(
    placement: Placement | None, slabs: Iterable[Tensor], axis: int
) -> Iterator[tuple[Place, Tensor]]:
    """Take slabs of the prepared volume to blocks of the cut grid (the file's own voxels), each with its place.

    Args:
        placement: The way back; None where nothing was resampled.
        slabs: Probabilities (outputs, x, y, z) on the CPU, in order along `axis`, that make up the volume.
        axis: 0, 1 or 2.
    """
    start = 0
    arrays: Iterable[NDArray[np.float32]] = (np.asarray(slab) for slab in slabs)
    for block in arrays if placement is None else placement.stream_back(arrays, axis):
        stop = start + block.shape[axis + 1]
        x, y, z = (slice(start, stop) if a == axis else slice(None) for a in range(3))
        yield (x, y, z), torch.from_numpy(block)
        start = stop
