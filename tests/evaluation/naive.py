"""The same definitions once more, in plain loops over voxels: slow, and independent of the code under test."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Voxel = tuple[int, int, int]


def surface(mask: Mask) -> list[Voxel]:
    voxels = {(int(x), int(y), int(z)) for x, y, z in np.argwhere(mask)}
    found = []
    for x, y, z in sorted(voxels):
        around = [(x - 1, y, z), (x + 1, y, z), (x, y - 1, z), (x, y + 1, z), (x, y, z - 1), (x, y, z + 1)]
        if any(voxel not in voxels for voxel in around):
            found.append((x, y, z))
    return found


def directed(start: Mask, end: Mask, spacing: Sequence[float]) -> list[float]:
    def apart(a: Voxel, b: Voxel) -> float:
        return math.sqrt(sum(((i - j) * length) ** 2 for i, j, length in zip(a, b, spacing, strict=True)))

    goals = surface(end)
    return [min(apart(voxel, goal) for goal in goals) for voxel in surface(start)]


def percentile(values: Sequence[float], q: float) -> float:
    """Interpolate linearly between the sorted values, the first being 0 % and the last 100 %."""
    ordered = sorted(values)
    place = q / 100 * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def dice(truth: Mask, prediction: Mask) -> float:
    first = {tuple(voxel) for voxel in np.argwhere(truth).tolist()}
    second = {tuple(voxel) for voxel in np.argwhere(prediction).tolist()}
    return 2 * len(first & second) / (len(first) + len(second))
