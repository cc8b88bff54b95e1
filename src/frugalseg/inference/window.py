"""Prediction of a volume by overlapping windows that cover every voxel, blended with Gaussian weights."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional

Triple = tuple[int, int, int]
LEAST_WEIGHT = 1e-3  # of the centre's, along each axis: far corners still count where nothing else covers them


def window_starts(size: int, window: int, overlap: float) -> list[int]:
    """Return first voxels of evenly spaced windows along an axis: the first at 0, the last ending at `size`."""
    if size <= window:
        return [0]
    step = max(1.0, window * (1 - overlap))
    count = math.ceil((size - window) / step) + 1
    return [round(index * (size - window) / (count - 1)) for index in range(count)]


def gaussian_weights(window: Triple) -> Tensor:
    """Return the weights (x, y, z) of a window: a product of Gaussians of an eighth of each side, all positive."""
    x, y, z = (axis_weights(side) for side in window)
    return x[:, None, None] * y[None, :, None] * z[None, None, :]


def axis_weights(side: int) -> Tensor:
    """Return a window's weights along one axis."""
    places = torch.arange(side, dtype=torch.float32) - (side - 1) / 2
    return torch.exp(-0.5 * (places / (side / 8)) ** 2).clamp(min=LEAST_WEIGHT)


def sliding_window(
    image: Tensor,
    window: Triple,
    predict: Callable[[Tensor], Tensor],
    background: Sequence[float],
    overlap: float = 0.5,
    batch: int = 1,
) -> Tensor:
    """Predict a volume and return the blended outputs (outputs, x, y, z), float32, on the CPU; see `slabs`."""
    return torch.cat(list(slabs(image, window, predict, background, 0, overlap, batch)), dim=1)


def slabs(
    image: Tensor,
    window: Triple,
    predict: Callable[[Tensor], Tensor],
    background: Sequence[float],
    axis: int,
    overlap: float = 0.5,
    batch: int = 1,
    spread: Callable[[int, int, float], list[int]] = window_starts,
) -> Iterator[Tensor]:
    """Predict a volume from one end of an axis to the other; yield the blended outputs as soon as they are final.

    Held are the outputs of one window's depth along the axis, whatever the volume's: (outputs, x, y, z) of float32
    on the CPU, with the volume's sides on the other two axes. The slabs that are yielded make up the volume.

    Windows in which every voxel is background are all the same: the network sees one of them.

    Args:
        image: (C, x, y, z). Where it is smaller than the window it is padded evenly with `background`.
        window: Sides of a window in voxels.
        predict: Windows (n, C, *window), on whatever device, to outputs (n, outputs, *window).
        background: Value of each channel outside the image.
        axis: 0, 1 or 2; see `thin_axis`.
        overlap: Share of a window that the next one covers again, at least.
        batch: Windows at a time.
        spread: Places windows along an axis, see `window_starts`.
    """
    padded, corner = pad_to(image, window, background)
    starts = [spread(size, side, overlap) for size, side in zip(padded.shape[1:], window)]
    weights = gaussian_weights(window)
    # A window's weights are a product over the axes, and so is what they add up to in a voxel.
    totals = [
        _total(size, places, side) for size, places, side in zip(padded.shape[1:], starts, window, strict=True)
    ]
    inside = _box(corner, (image.shape[1], image.shape[2], image.shape[3]))
    occupied = (padded != torch.tensor(background, dtype=padded.dtype)[:, None, None, None]).any(dim=0)
    depth = [side if a == axis else size for a, (side, size) in enumerate(zip(window, padded.shape[1:]))]
    held = empty = None
    along = starts[axis]
    for number, start in enumerate(along):
        places = list(itertools.product(*(starts[a] if a != axis else [start] for a in range(3))))
        empties = [not occupied[_box(place, window)].any() for place in places]
        bare = [place for place, is_empty in zip(places, empties) if is_empty]
        full = [place for place, is_empty in zip(places, empties) if not is_empty]
        groups = [full[first : first + batch] for first in range(0, len(full), batch)]
        with torch.inference_mode():
            if bare and empty is None:
                empty = predict(_cut(padded, bare[:1], window)).float().cpu()[0].clone()
            for group in groups:
                out = predict(_cut(padded, group, window)).float().cpu()
                for place, values in zip(group, out, strict=True):
                    held = torch.zeros(out.shape[1], *depth) if held is None else held
                    _blend(held, place, axis, values, weights)
            for place in bare:
                assert empty is not None
                held = torch.zeros(len(empty), *depth) if held is None else held
                _blend(held, place, axis, empty, weights)
        assert held is not None
        final = (along[number + 1] if number + 1 < len(along) else start + window[axis]) - start
        yield _finished(held, totals, axis, start, final, inside)
        with torch.inference_mode():
            rest = held.narrow(axis + 1, final, window[axis] - final).clone()
            held.zero_().narrow(axis + 1, 0, rest.shape[axis + 1]).copy_(rest)


def _cut(image: Tensor, places: Sequence[Sequence[int]], window: Triple) -> Tensor:
    """Return the windows (n, C, *window) that begin at these places."""
    return torch.stack([image[(slice(None), *_box(place, window))] for place in places])


def _blend(held: Tensor, place: Sequence[int], axis: int, values: Tensor, weights: Tensor) -> None:
    """Add a window's outputs (outputs, *window) times its weights to those that are held."""
    sides = (values.shape[1], values.shape[2], values.shape[3])
    low = [0 if a == axis else place[a] for a in range(3)]
    held[(slice(None), *_box(low, sides))].addcmul_(values, weights)


def thin_axis(shape: Sequence[int], window: Triple) -> int:
    """Return the axis along which one window's depth of the volume has the fewest voxels."""
    return min(range(3), key=lambda axis: window[axis] / max(window[axis], shape[axis]))


def _finished(
    held: Tensor, totals: Sequence[Tensor], axis: int, start: int, rows: int, inside: tuple[slice, slice, slice]
) -> Tensor:
    """Return the first rows of what is held, over their total weights, without the padding."""
    low, high = max(start, inside[axis].start), min(start + rows, inside[axis].stop)
    cut = [slice(low - start, high - start) if a == axis else inside[a] for a in range(3)]
    with torch.inference_mode():
        result = held[(slice(None), *cut)].clone()
        for a, total in enumerate(totals):
            view = [1, 1, 1]
            view[a] = -1
            result /= total[slice(low, high) if a == axis else inside[a]].reshape(view)
    return result


def _total(size: int, starts: Sequence[int], side: int) -> Tensor:
    """Return what the windows' weights along an axis add up to."""
    total = torch.zeros(size)
    for start in starts:
        total[start : start + side] += axis_weights(side)
    return total


def pad_to(image: Tensor, least: Triple, background: Sequence[float]) -> tuple[Tensor, Triple]:
    """Pad (C, x, y, z) evenly to at least these sides; also return where the image's first voxel lies now."""
    missing = [max(0, side - size) for side, size in zip(least, image.shape[1:])]
    before = [m // 2 for m in missing]
    corner = (before[0], before[1], before[2])
    if not any(missing):
        return image, corner
    values = torch.tensor(background, dtype=image.dtype, device=image.device)[:, None, None, None]
    pads = [side for b, m in zip(reversed(before), reversed(missing)) for side in (b, m - b)]
    return functional.pad(image - values, pads) + values, corner


def with_flips(predict: Callable[[Tensor], Tensor], axes: Sequence[int]) -> Callable[[Tensor], Tensor]:
    """Return `predict` averaged over all combinations of flips along these axes (0, 1, 2)."""
    if not axes:
        return predict
    choices = [choice for n in range(len(axes) + 1) for choice in itertools.combinations(axes, n)]

    def averaged(windows: Tensor) -> Tensor:
        total: Tensor | None = None
        for choice in choices:
            dims = [axis + 2 for axis in choice]
            out = predict(windows.flip(dims)).flip(dims)
            total = out.clone() if total is None else total.add_(out)
        assert total is not None
        return total.div_(len(choices))

    return averaged


def probabilities(logits: Tensor, groups: int, classes: int) -> Tensor:
    """Turn logits (n, R x K, x, y, z) into probabilities of the same shape: one softmax for each of R groups."""
    split = logits.float().reshape(len(logits), groups, classes, *logits.shape[2:])
    return split.softmax(dim=2).reshape(logits.shape)


def class_indices(blended: Tensor, groups: int, classes: int) -> Tensor:
    """Turn blended probabilities (R x K, x, y, z) into class indices (R, x, y, z), uint8."""
    split = blended.reshape(groups, classes, *blended.shape[1:])
    return split.argmax(dim=1).to(torch.uint8)


def _box(place: Sequence[int], sides: Triple) -> tuple[slice, slice, slice]:
    x, y, z = (slice(start, start + side) for start, side in zip(place, sides))
    return x, y, z
