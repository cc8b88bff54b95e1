"""Prediction of a volume by overlapping windows that cover every voxel, blended with Gaussian weights."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

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
    axes = []
    for side in window:
        places = torch.arange(side, dtype=torch.float32) - (side - 1) / 2
        axes.append(torch.exp(-0.5 * (places / (side / 8)) ** 2).clamp(min=LEAST_WEIGHT))
    return axes[0][:, None, None] * axes[1][None, :, None] * axes[2][None, None, :]


@torch.inference_mode()
def sliding_window(
    image: Tensor,
    window: Triple,
    predict: Callable[[Tensor], Tensor],
    background: Sequence[float],
    overlap: float = 0.5,
    batch: int = 1,
) -> Tensor:
    """Predict a volume and return the blended outputs (outputs, x, y, z), float32, on the CPU.

    Args:
        image: (C, x, y, z). Where it is smaller than the window it is padded evenly with `background`.
        window: Sides of a window in voxels.
        predict: Windows (n, C, *window), on whatever device, to outputs (n, outputs, *window).
        background: Value of each channel outside the image.
        overlap: Share of a window that the next one covers again, at least.
        batch: Windows at a time.
    """
    padded, corner = pad_to(image, window, background)
    shape = padded.shape[1:]
    places = list(itertools.product(*(window_starts(size, side, overlap) for size, side in zip(shape, window))))
    weights = gaussian_weights(window)
    blended: Tensor | None = None
    total = torch.zeros(shape)
    for first in range(0, len(places), batch):
        group = places[first : first + batch]
        out = predict(torch.stack([padded[(slice(None), *_box(place, window))] for place in group]))
        out = out.float().cpu()
        if blended is None:
            blended = torch.zeros(out.shape[1], *shape)
        for place, values in zip(group, out, strict=True):
            box = _box(place, window)
            blended[(slice(None), *box)] += values * weights
            total[box] += weights
    assert blended is not None
    blended /= total
    return blended[(slice(None), *_box(corner, (image.shape[1], image.shape[2], image.shape[3])))]


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
            total = out if total is None else total + out
        assert total is not None
        return total / len(choices)

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
