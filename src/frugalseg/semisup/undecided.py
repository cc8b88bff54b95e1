"""Where registered labels leave something to decide: elsewhere all that know anything are sure of background.

In most of a scan nobody votes for a structure, and no vote need be counted. The rest is cut into blocks, each with
the voxels around it that a vote looks at, so that memory does not grow with the image.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from frugalseg.data.warp import Box, Floats, Sides, around, box_of, column

BLOCK = 64  # voxels a side, at least


@dataclass(frozen=True)
class Part:
    """A part of the grid: `own`, the voxels to decide; `wide`, with what a vote about them looks at."""

    own: Box
    wide: Box

    @property
    def within(self) -> Box:
        """Where `own` lies in `wide`."""
        x, y, z = (
            slice(one.start - all_.start, one.stop - all_.start)
            for one, all_ in zip(self.own, self.wide, strict=True)
        )
        return x, y, z


def among_background(label: NDArray[np.uint8], places: Floats) -> NDArray[np.bool_]:
    """Return whether all neighbours of places (3, x, y, z) in a label's voxels are background in all its rows.

    Args:
        label: (R, x, y, z); 0 is background.
        places: Beyond the edge it is the edge.
    """
    first, sides = around(places, label.shape[1:])
    # Whether the eight voxels from each one on are: the neighbours of all places between it and the next ones.
    empty = np.asarray((label[:, *box_of(first, sides)] == 0).all(axis=0), np.bool_)
    for axis in range(3):
        lines = np.moveaxis(empty.copy(), axis, 0)
        lines[:-1] &= np.moveaxis(empty, axis, 0)[1:]
        empty = np.moveaxis(lines, 0, axis)
    x, y, z = np.clip(places - column(first), 0, column(sides) - 1).astype(np.int32)  # rounds down: none is below 0
    return np.asarray(empty[x, y, z], np.bool_)


def widened(mask: NDArray[np.bool_], steps: Iterable[Sides]) -> NDArray[np.bool_]:
    """Return the voxels of a mask (x, y, z) and those from which one of these steps leads into it."""
    found = mask.copy()
    for step in steps:
        here = tuple(slice(max(0, -s), side - max(0, s)) for s, side in zip(step, mask.shape, strict=True))
        there = tuple(slice(max(0, s), side - max(0, -s)) for s, side in zip(step, mask.shape, strict=True))
        found[here] |= mask[there]
    return found


def block_side(reach: Sides) -> int:
    """Return the sides of blocks, in voxels, that are not much smaller than what a vote about them looks at."""
    return max(BLOCK, 4 * max(reach))


def blocks(sides: Sides, side: int) -> Iterator[Box]:
    """Yield a grid's blocks of so many voxels a side."""
    starts = (range(0, end, side) for end in sides)
    for x, y, z in product(*starts):
        yield (
            slice(x, min(x + side, sides[0])),
            slice(y, min(y + side, sides[1])),
            slice(z, min(z + side, sides[2])),
        )


def parts(mask: NDArray[np.bool_], reach: Sides, side: int) -> Iterator[Part]:
    """Yield the blocks that a mask (x, y, z) has voxels in, cut down to them.

    Args:
        mask: Where votes are wanted.
        reach: How far a vote looks, in voxels.
        side: Of a block.
    """
    x, y, z = mask.shape
    for block in blocks((x, y, z), side):
        inside = mask[block]
        if not inside.any():
            continue
        own, wide = [], []
        for axis, (part, far, end) in enumerate(zip(block, reach, mask.shape, strict=True)):
            lines = np.flatnonzero(inside.any(axis=tuple(other for other in range(3) if other != axis)))
            low, high = part.start + int(lines[0]), part.start + int(lines[-1]) + 1
            own.append(slice(low, high))
            wide.append(slice(max(0, low - far), min(end, high + far)))
        yield Part((own[0], own[1], own[2]), (wide[0], wide[1], wide[2]))


def voxels_in_boxes(label: NDArray[np.uint8]) -> int:
    """Return how many voxels of a label (R, x, y, z) lie in boxes, one a block, around what is not background."""
    boxes = (part.own for part in parts((label != 0).any(axis=0), (0, 0, 0), BLOCK))
    return sum(math.prod(side.stop - side.start for side in box) for box in boxes)
