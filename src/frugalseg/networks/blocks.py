"""The building blocks that every part of the network shares (Iwasawa et al. 2020; Myronenko 2018)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from frugalseg.networks.normalisation import normalisation

TINY = 3  # voxels a side below which bf16 is not trusted on a CPU

Triple = tuple[int, int, int]


class Convolution(nn.Conv3d):
    """A 3D convolution whose gradient is right on tiny maps in bf16 on a CPU, too (docs/decisions/0005).

    oneDNN's bf16 kernels leave parts of the weight's gradient unwritten, or write it wrong, where an axis that is
    filtered or strided has fewer than 3 voxels. These maps cost next to nothing: they are done in float32.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, x, y, z) to (B, outputs, x / stride, y / stride, z / stride), rounded up."""
        if x.device.type == "cpu" and self._tiny(x):
            with torch.autocast("cpu", enabled=False):
                return super().forward(x.to(self.weight.dtype))
        return super().forward(x)

    def _tiny(self, x: Tensor) -> bool:
        sides = zip(x.shape[2:], self.kernel_size, self.stride)
        return any(side < TINY and (kernel > 1 or stride > 1) for side, kernel, stride in sides)


def convolution(inputs: int, outputs: int, kernel: Triple = (3, 3, 3), stride: Triple = (1, 1, 1)) -> Convolution:
    """Return a convolution with bias whose padding keeps the size at stride 1."""
    padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
    return Convolution(inputs, outputs, kernel, stride, padding)


class ResidualBlock(nn.Module):
    """x + Conv(ReLU(GN(Conv(ReLU(GN(x)))))), the number of channels unchanged."""

    def __init__(self, channels: int, kernel: Triple = (3, 3, 3)) -> None:
        super().__init__()
        self.norm1 = normalisation(channels)
        self.conv1 = convolution(channels, channels, kernel)
        self.norm2 = normalisation(channels)
        self.conv2 = convolution(channels, channels, kernel)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, x, y, z) to the same shape."""
        inner: Tensor = self.conv1(self.norm1(x))
        inner = self.conv2(self.norm2(inner))
        return inner.add_(x)  # nobody else has seen it


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """Resize (B, C, x, y, z) trilinearly to `size`; corner voxels keep their places (aligned corners)."""
    if tuple(x.shape[2:]) == tuple(size):
        return x
    return functional.interpolate(x, size=tuple(size), mode="trilinear", align_corners=True)
