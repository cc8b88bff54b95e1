"""The part of an image where any mask is: scores depend on nothing else, and mostly it is small."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from frugalseg.evaluation.overlap import Mask

Slices = tuple[slice, slice, slice]


def joint_box(masks: Iterable[Mask]) -> Slices:
    """Return the smallest box around the voxels of all masks (x, y, z), as slices; empty ones if there is none."""
    ranges = [_ranges(mask) for mask in masks if mask.any()]
    if not ranges:
        return slice(0, 0), slice(0, 0), slice(0, 0)
    limits = np.array(ranges)  # (masks, axes, 2)
    x, y, z = (slice(int(low), int(high)) for low, high in zip(limits.min(0)[:, 0], limits.max(0)[:, 1]))
    return x, y, z


def _ranges(mask: Mask) -> list[tuple[int, int]]:
    """Return (start, stop) along each axis of a mask that is not empty."""
    if mask.flags.f_contiguous and not mask.flags.c_contiguous:  # image readers give these, and across is slow
        return _ranges(mask.T)[::-1]
    plane = np.asarray(mask.any(axis=0))  # gives two of the axes, and is small
    lines = (mask.any(axis=(1, 2)), plane.any(axis=1), plane.any(axis=0))
    places = [np.flatnonzero(line) for line in lines]
    return [(int(place[0]), int(place[-1]) + 1) for place in places]
