"""Probabilities that registered cases give a volume's classes, kept only where they had to be weighed.

Elsewhere a voxel is background, or nothing is known of it. A scan of which organs fill a tenth takes a tenth of the
memory, which counts with many classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from frugalseg.data.warp import Box, Floats

SlabOf = Callable[[int, int, int], Floats]
"""Gives probabilities (R, K, x, y, z) of a volume along an axis from a voxel to another; 0 for all: not known."""
SLAB = 8  # voxels along the first axis that are handled at a time


@dataclass(frozen=True, eq=False)
class Weighed:
    """Probabilities (R, K, ...) in a box of the volume; `where` (...) they count."""

    box: Box
    where: NDArray[np.bool_]
    shares: Floats


@dataclass(frozen=True, eq=False)
class Votes:
    """Of every voxel (x, y, z): whether anything is `known`, and in parts that do not overlap what.

    `outputs`: R groups of K classes, of which the first is background.
    """

    known: NDArray[np.bool_]
    parts: tuple[Weighed, ...]
    outputs: tuple[int, int]

    def slab(self, axis: int, start: int, stop: int) -> Floats:
        """Return the probabilities (R, K, x, y, z) of a slab along an axis, 0 for all where nothing is known."""
        sides = list(self.known.shape)
        sides[axis] = stop - start
        found = np.zeros((*self.outputs, *sides), np.float32)
        found[:, 0] = np.moveaxis(np.moveaxis(self.known, axis, 0)[start:stop], 0, axis)
        for part in self.parts:
            own = part.box[axis]
            low, high = max(start, own.start), min(stop, own.stop)
            if low < high:
                there, here = list(part.box), [slice(None)] * 3
                there[axis], here[axis] = slice(low - start, high - start), slice(low - own.start, high - own.start)
                np.copyto(found[:, :, *there], part.shares[:, :, *here], where=part.where[tuple(here)])
        return found

    def whole(self) -> Floats:
        """Return the probabilities (R, K, x, y, z) of all voxels."""
        return self.slab(0, 0, self.known.shape[0])

    def rounded(self) -> NDArray[np.uint8]:
        """Return them (R, K, x, y, z) in 255ths."""
        found = np.zeros((*self.outputs, *self.known.shape), np.uint8)
        for start in range(0, self.known.shape[0], SLAB):
            stop = min(start + SLAB, self.known.shape[0])
            found[:, :, start:stop] = np.rint(255 * self.slab(0, start, stop).clip(0, 1))
        return found


def with_votes(slabs: Iterable[Tensor], axis: int, votes: SlabOf, share: float) -> Iterator[Tensor]:
    """Yield a network's slabs (R x K, x, y, z) along an axis, the votes mixed in where something is known.

    Args:
        slabs: The network's probabilities, in order, that make up the volume.
        axis: 0, 1 or 2.
        votes: Gives a slab of what is said about the volume: `Votes.slab`.
        share: Of the votes.
    """
    start = 0
    for slab in slabs:
        stop = start + slab.shape[axis + 1]
        part = torch.from_numpy(votes(axis, start, stop)).mul_(share)
        left, split = 1 - part.sum(dim=1), slab.unflatten(0, part.shape[:2])
        for k in range(part.shape[1]):  # a class at a time: a slab of all is large
            part[:, k] += left * split[:, k]
        yield part.flatten(0, 1)
        start = stop
