"""A convolution of a tiny map as one matrix product: every input voxel with every output voxel.

On a map of 2 x 2 x 2 voxels a filter of 3 x 3 x 3 spends 19 of its 27 taps on padding, and oneDNN has no fast
kernel for it. The product needs 64 multiplications for each pair of channels where the convolution does 216, and
runs at the speed of matrix products. Building its matrix costs as much as a few samples, so that many of them must
share it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

LARGEST = 8  # voxels of a map
FEWEST = 16  # samples


def pays(x: Tensor) -> bool:
    """Whether a map (B, C, x, y, z) is small enough, and its samples are enough."""
    return len(x) >= FEWEST and x[0, 0].numel() <= LARGEST


def dense_convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int], padding: Sequence[int]
) -> Tensor:
    """Convolve (B, I, x, y, z) with (O, I, kx, ky, kz); the result (B, O, ...) is in channels-last order."""
    outputs = len(weight)
    sides, kernel = tuple(x.shape[2:]), tuple(weight.shape[2:])
    pairs = torch.tensor(taps(sides, kernel, tuple(stride), tuple(padding)), dtype=weight.dtype)
    target = [
        (side + 2 * pad - width) // step + 1 for side, pad, width, step in zip(sides, padding, kernel, stride)
    ]
    matrix = torch.einsum("qpk,oik->qipo", pairs, weight.flatten(2)).reshape(x[0].numel(), -1)
    flat = x.permute(0, 2, 3, 4, 1).reshape(len(x), -1)
    out = flat @ matrix if bias is None else torch.addmm(bias.repeat(pairs.shape[1]), flat, matrix)
    return out.view(len(x), *target, outputs).permute(0, 4, 1, 2, 3)


@lru_cache(maxsize=64)
def taps(
    sides: tuple[int, ...], kernel: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...]
) -> NDArray[np.float32]:
    """Return (Q, P, K): 1 where input voxel q meets output voxel p under tap k of the filter, else 0.

    Not a tensor, which would outlive the mode (inference, no numbers) in which it was made first.
    """
    whole = np.ones((1, 1, 1), np.float32)
    for side, width, step, pad in zip(sides, kernel, stride, padding):
        count = (side + 2 * pad - width) // step + 1
        axis = np.zeros((side, count, width), np.float32)
        for p in range(count):
            for k in range(width):
                q = p * step + k - pad
                if 0 <= q < side:
                    axis[q, p, k] = 1
        sizes = [one * other for one, other in zip(whole.shape, axis.shape)]
        whole = np.einsum("qpk,rsl->qrpskl", whole, axis).reshape(sizes)
    return whole
