"""Arrays taken to another number of voxels over the same physical extent: images, labels, and probabilities back.

Voxel i of n covers [i, i + 1) / n of an axis, before and after: the extent stays, centres are compared, and the new
spacing is n / m times the old one. Every step is one small matrix an axis (new voxel x old voxel), so an array is
resampled by three matrix products: exact, in float32, a channel or class at a time (docs/decisions/0010).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from frugalseg.data.scheme import IGNORED

Triple = tuple[int, int, int]
Kind = Literal["cubic", "linear", "votes"]
Matrices = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]

COARSE = 3.0  # an axis with a spacing of more than this times the finest is interpolated linearly (nnU-Net's limit)
PIECE = 16  # rows of a streamed block that are made at a time


def new_shape(shape: Triple, spacing: Sequence[float], target: Sequence[float]) -> Triple:
    """Return the voxels that bring an image nearest to the target spacing (mm); an axis of one voxel stays one."""
    x, y, z = (1 if n == 1 else max(1, round(n * s / t)) for n, s, t in zip(shape, spacing, target))
    return x, y, z


def coarse_axes(*spacings: Sequence[float]) -> tuple[bool, bool, bool]:
    """Return which axes are coarse in any of these spacings."""
    x, y, z = (any(spacing[axis] > COARSE * min(spacing) for spacing in spacings) for axis in range(3))
    return x, y, z


@lru_cache(maxsize=256)
def weights(old: int, new: int, kind: Kind) -> NDArray[np.float32]:
    """Return the matrix (new, old) of an axis; its rows sum to 1. Beyond its ends an axis goes on as it ended.

    `cubic`: the interpolating spline of order 3. `linear`: between the two nearest centres. `votes`: linear where
    the axis gets finer; where it gets coarser, each old voxel counts by the share of the new one that it covers,
    so that none is passed over.
    """
    ratio = old / new
    places = (np.arange(new) + 0.5) * ratio - 0.5
    if old == new:
        matrix = np.eye(old)
    elif kind == "cubic" and old > 1:
        from scipy import ndimage

        columns = np.eye(old)
        matrix = np.stack([ndimage.map_coordinates(c, places[None], order=3, mode="nearest") for c in columns], 1)
    elif kind == "votes" and new < old:
        low, high = np.arange(new)[:, None] * ratio, np.arange(1, new + 1)[:, None] * ratio
        matrix = (np.minimum(high, np.arange(1, old + 1)) - np.maximum(low, np.arange(old))).clip(0)
    else:
        matrix = (1 - np.abs(places.clip(0, old - 1)[:, None] - np.arange(old))).clip(0)
    matrix /= matrix.sum(axis=1, keepdims=True)
    result = matrix.astype(np.float32)
    result.flags.writeable = False
    return result


def matrices(old: Sequence[int], new: Sequence[int], kinds: Sequence[Kind]) -> Matrices:
    """Return the matrix of each axis."""
    x, y, z = (weights(a, b, kind) for a, b, kind in zip(old, new, kinds, strict=True))
    return x, y, z


def apply(array: NDArray[np.float32], steps: Sequence[NDArray[np.float32] | None]) -> NDArray[np.float32]:
    """Multiply the axes of (x, y, z) by their matrices, None: by none; those that shrink it most first."""
    order = [axis for axis in range(3) if steps[axis] is not None and not _identity(steps[axis])]
    for axis in sorted(order, key=lambda axis: _growth(steps[axis])):
        step = steps[axis]
        assert step is not None
        if axis == 0:
            rest = array.shape[1:]
            array = (step @ np.ascontiguousarray(array).reshape(len(array), -1)).reshape(len(step), *rest)
        else:
            array = np.matmul(step, array) if axis == 1 else np.matmul(array, step.T)
    return array


def resample_image(
    image: NDArray[np.float32], shape: Triple, coarse: Sequence[bool] = (False, False, False)
) -> NDArray[np.float32]:
    """Take an image (channel, x, y, z) to `shape`: splines of order 3, along coarse axes linear interpolation.

    A spline swings over where slices are far apart and differ: between coarse slices it would invent dark and
    bright ones. The image itself comes back where nothing changes.
    """
    if image.shape[1:] == shape:
        return image
    kinds: list[Kind] = ["linear" if flag else "cubic" for flag in coarse]
    steps = matrices(image.shape[1:], shape, kinds)
    result = np.empty((len(image), *shape), np.float32)
    for place, channel in enumerate(image):
        result[place] = apply(channel, steps)
    return result


def resample_target(target: NDArray[np.uint8], shape: Triple, classes: int) -> NDArray[np.uint8]:
    """Take class indices (R, x, y, z) to `shape`: each class votes for itself, and the most votes win.

    A voxel is ignored in all groups where more than half of what it is made of is; otherwise the rest votes. A
    class that had voxels and would have none left keeps its strongest one, unless that is ignored or the last one
    of another class.

    Args:
        target: Class indices, and `IGNORED`.
        shape: The new sides.
        classes: K, the background included.
    """
    if target.shape[1:] == shape:
        return target
    steps = matrices(target.shape[1:], shape, ("votes", "votes", "votes"))
    unknown = _votes(target[0] == IGNORED, steps, shape)
    groups = [_resample_group(group, steps, shape, classes, unknown) for group in target]
    return np.stack(groups)


def _resample_group(
    group: NDArray[np.uint8], steps: Matrices, shape: Triple, classes: int, unknown: NDArray[np.float32]
) -> NDArray[np.uint8]:
    most, rest = np.zeros(shape, np.float32), 1 - unknown
    winner = np.zeros(shape, np.uint8)
    present = [int(index) for index in np.unique(group) if 0 < index < classes]
    for index in present:
        votes = _votes(group == index, steps, shape)
        rest -= votes
        better = votes > most
        winner[better], most[better] = index, votes[better]
    # What floats leave of three classes that share a voxel is no background.
    winner[rest >= most - 1e-6] = 0
    winner[unknown > 0.5 + 1e-6] = IGNORED
    counts = np.bincount(winner.ravel(), minlength=256)
    for index in present:
        if counts[index]:
            continue
        votes = _votes(group == index, steps, shape)
        taken = (winner == IGNORED) | ((winner > 0) & (counts[winner] == 1))
        votes[taken] = 0
        place = np.unravel_index(int(votes.argmax()), shape)
        if votes[place] > 0:
            counts[winner[place]] -= 1
            winner[place] = index
            counts[index] = 1
    return winner


def _votes(mask: NDArray[np.bool_], steps: Matrices, shape: Triple) -> NDArray[np.float32]:
    """Resample a mask; only the box around it is computed."""
    votes = np.zeros(shape, np.float32)
    if not mask.any():
        return votes
    boxes, rows, parts = [], [], []
    for axis, step in enumerate(steps):
        there = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        box = slice(int(there[0]), int(there[-1]) + 1)
        touched = np.flatnonzero(step[:, box].any(axis=1))
        row = slice(int(touched[0]), int(touched[-1]) + 1)
        boxes.append(box)
        rows.append(row)
        parts.append(np.ascontiguousarray(step[row, box]))
    votes[tuple(rows)] = apply(mask[tuple(boxes)].astype(np.float32), parts)
    return votes


def stream_back(
    blocks: Iterable[NDArray[np.float32]], axis: int, old: Triple, new: Triple
) -> Iterator[NDArray[np.float32]]:
    """Resample probabilities (outputs, x, y, z) that come in blocks along an axis; give them in blocks along it.

    At no time are more than one incoming block and the rows that its neighbours need held in the new size.

    Args:
        blocks: Of the volume `old`, in order and without gaps along `axis`.
        axis: 0, 1 or 2.
        old: Sides of the volume that the blocks make up.
        new: Sides of the volume that comes out.
    """
    steps = list(matrices(old, new, ("votes", "votes", "votes")))
    along = steps[axis]
    across: list[NDArray[np.float32] | None] = [None if a == axis else step for a, step in enumerate(steps)]
    needs = [np.flatnonzero(row) for row in along]
    lows, highs = [int(need[0]) for need in needs], [int(need[-1]) + 1 for need in needs]
    held: NDArray[np.float32] | None = None
    first = done = 0
    for block in blocks:
        for low, high in pairwise([*range(0, block.shape[axis + 1], PIECE), block.shape[axis + 1]]):
            part = block[_rows(axis, low, high)]
            part = np.stack([apply(output, across) for output in part])
            held = part if held is None else np.concatenate([held, part], axis=axis + 1)
            stop = first + held.shape[axis + 1]
            while done < new[axis] and highs[done] <= stop:
                end = done + 1
                while end < min(new[axis], done + PIECE) and highs[end] <= stop:
                    end += 1
                base, top = lows[done], highs[end - 1]
                only: list[NDArray[np.float32] | None] = [None, None, None]
                only[axis] = np.ascontiguousarray(along[done:end, base:top])
                rows = held[_rows(axis, base - first, top - first)]
                yield np.stack([apply(output, only) for output in rows])
                done = end
            keep = lows[done] if done < new[axis] else stop
            held = np.ascontiguousarray(held[_rows(axis, min(keep, stop) - first, None)])
            first = min(keep, stop)


def _rows(axis: int, low: int, high: int | None) -> tuple[slice, ...]:
    """Return the index of rows low to high along an axis of (outputs, x, y, z)."""
    index = [slice(None)] * 4
    index[axis + 1] = slice(low, high)
    return tuple(index)


def _identity(step: NDArray[np.float32] | None) -> bool:
    return step is not None and step.shape[0] == step.shape[1] and np.array_equal(step, np.eye(len(step)))


def _growth(step: NDArray[np.float32] | None) -> float:
    return 1.0 if step is None else step.shape[0] / step.shape[1]
